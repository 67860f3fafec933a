//! The four builds of `bitnet-wasm`: what a module uses is fixed when it is compiled, and the browser chooses among them; and the
//! one of `bitnet-wasm-constraints`, which is fetched when it is used.

use super::tools;
use crate::program::carry_out;
use crate::target::Target;
use anyhow::{Context, Result};
use std::path::Path;

/// The profile that they are built in.
const PROFILE: &str = "web";

/// The package of models.
const MODELS: &str = "bitnet-wasm";

/// One build.
struct Build {
    name: &'static str,
    package: &'static str,
    /// For rustc.
    features: &'static str,
    /// Whether memory is shared with threads.
    threads: bool,
    /// Whether it runs models on the browser's GPU.
    gpu: bool,
}

const BUILDS: [Build; 5] = [
    Build {
        name: "simd128",
        package: MODELS,
        features: "+simd128",
        threads: false,
        gpu: false,
    },
    Build {
        name: "relaxed",
        package: MODELS,
        features: "+simd128,+relaxed-simd",
        threads: false,
        gpu: false,
    },
    Build {
        name: "threads",
        package: MODELS,
        features: "+simd128,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals",
        threads: true,
        gpu: false,
    },
    Build {
        name: "webgpu",
        package: MODELS,
        features: "+simd128",
        threads: false,
        gpu: true,
    },
    Build {
        name: "constraints",
        package: "bitnet-wasm-constraints",
        // Those of another build, so that they have the standard library in common.
        features: "+simd128",
        threads: false,
        gpu: false,
    },
];

/// How the standard library is built for all of them: the distributed one was compiled for speed, for one thread, and with the
/// machinery that says where a program panicked, all of which every visitor of a page would fetch. Here a panic ends the program.
const LIBRARY: [&str; 2] = [
    "-Zbuild-std=std,panic_abort",
    "-Zbuild-std-features=optimize_for_size",
];
const PANIC: [&str; 2] = ["-Zunstable-options", "-Cpanic=immediate-abort"];

/// What the linker is told for shared memory: it is made outside, may grow to 4 GiB, and each thread has its own statics.
const SHARED: [&str; 7] = [
    "--shared-memory",
    "--import-memory",
    "--max-memory=4294967296",
    "--export=__wasm_init_tls",
    "--export=__tls_size",
    "--export=__tls_align",
    "--export=__tls_base",
];

/// Builds all of them into `out/NAME/bitnet.js` and `bitnet_bg.wasm`. What is up to date is left alone.
pub(super) fn build(out: &Path) -> Result<()> {
    for build in &BUILDS {
        build.carry_out(&out.join(build.name))?;
    }
    Ok(())
}

impl Build {
    fn carry_out(&self, out: &Path) -> Result<()> {
        let package = format!("--package={}", self.package);
        let arguments = ["build", &package, "--lib"];
        // Build scripts look at RUSTC_BOOTSTRAP: in one folder with other builds each would undo the other's.
        let target_folder = Target::Wasm.folder()?.join("web");
        let mut cargo = Target::Wasm.cargo(PROFILE, &arguments)?;
        if self.gpu {
            cargo.arg("--features=wgpu");
        }
        cargo.args(LIBRARY).env("RUSTC_BOOTSTRAP", "1");
        let mut flags = vec![format!("-Ctarget-feature={}", self.features)];
        flags.extend(PANIC.map(str::to_owned));
        if self.threads {
            flags.extend(SHARED.map(|flag| format!("-Clink-arg={flag}")));
        }
        cargo.env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            flags.join(" "),
        );
        cargo.env("CARGO_TARGET_DIR", &target_folder);
        carry_out(cargo)?;

        let built = target_folder
            .join(Target::Wasm.triple())
            .join(PROFILE)
            .join(format!("{}.wasm", self.package.replace('-', "_")));
        // What was made of it lies with it, and outlives the clone where that is arranged.
        let made = built.with_file_name(format!("bitnet_wasm_{}", self.name));
        self.finish(&built, &made)?;
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        for file in ["bitnet.js", "bitnet.d.ts", MODULE] {
            std::fs::copy(made.join(file), out.join(file))
                .with_context(|| format!("cannot copy {file} to {}", out.display()))?;
        }
        Ok(())
    }

    /// Makes JavaScript and an optimized module of `built` in the folder `made`, unless that was done with the same bytes
    /// and in the same way.
    fn finish(&self, built: &Path, made: &Path) -> Result<()> {
        let bytes =
            std::fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
        let (source, way) = (made.join("source.wasm"), made.join("optimizations"));
        let optimizations = OPTIMIZATIONS.join(" ");
        if std::fs::read(&source).is_ok_and(|earlier| earlier == bytes)
            && std::fs::read_to_string(&way).is_ok_and(|earlier| earlier == optimizations)
        {
            return Ok(());
        }
        std::fs::create_dir_all(made)
            .with_context(|| format!("cannot create {}", made.display()))?;
        let _ = std::fs::remove_file(&source);
        let mut bindgen = tools::wasm_bindgen()?;
        bindgen
            .args(["--target", "web", "--out-name", "bitnet"])
            // The Worker says where the module is.
            .args(["--omit-default-module-path", "--remove-name-section"])
            .arg("--out-dir")
            .arg(made)
            .arg(built);
        carry_out(bindgen)?;
        let module = made.join(MODULE);
        let mut optimize = tools::npx("wasm-opt");
        optimize
            .args(OPTIMIZATIONS)
            .args(FEATURES)
            .arg("-o")
            .arg(&module)
            .arg(&module);
        carry_out(optimize)?;
        std::fs::write(&way, optimizations)
            .with_context(|| format!("cannot write {}", way.display()))?;
        // Written last: what was broken off is done again.
        std::fs::write(&source, bytes).with_context(|| format!("cannot write {}", source.display()))
    }
}

/// The module's file.
const MODULE: &str = "bitnet_bg.wasm";

/// The passes over a module. The second round finds half a percent more in what the first one leaves. Functions that are called once
/// stay functions where LLVM left them so: compressed, that is three percent less. Nothing lies in the first KiB of memory but the end
/// of the stack, so that small constants can be added where a load or store is: half a percent.
const OPTIMIZATIONS: [&str; 7] = [
    "--low-memory-unused",
    "-Os",
    "-Os",
    "--one-caller-inline-max-function-size",
    "0",
    "--strip-debug",
    "--strip-producers",
];

/// What the compiler may have used.
const FEATURES: [&str; 10] = [
    "--enable-simd",
    "--enable-relaxed-simd",
    "--enable-threads",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-sign-ext",
];
