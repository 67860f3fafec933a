//! MLX for Linux: its library from PyPI, mlx-c compiled from the sources in `mlx-sys`, bindings by bindgen, and the
//! configurations that tell cargo of them. All in `$XDG_CACHE_HOME` or `~/.cache`, under `bitnet-rust/mlx`.

use crate::program::{cache, finish, metadata, strings_in};
use crate::workspace::cargo;
use anyhow::{Context, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of bindgen that `mlx-sys` asks for.
const BINDGEN: &str = "0.72.1";
/// The version of `mlx-sys` in Cargo.lock; it is one of MLX 0.32.2.
const SYS: &str = "0.7.0";

/// Where everything is. Another version is elsewhere.
fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("mlx").join(SYS))
}

/// Where the wheels are unpacked.
fn unpacked() -> Result<PathBuf> {
    Ok(folder()?.join("wheels"))
}

/// The folder of the bindings: what `mlx-sys` is told as its `OUT_DIR`.
fn bindings() -> Result<PathBuf> {
    Ok(folder()?.join("bindings"))
}

/// What is compiled here beside what is fetched.
const HALF: &str = include_str!("../setup/mlx/half.h");
const FORMAT: &str = include_str!("../setup/mlx/format.h");
const ACCESSORS: &str = include_str!("../setup/mlx/accessors.cpp");
const WHEELS: &str = include_str!("../setup/mlx/wheels.txt");

/// Tells one state of that from another.
fn mark() -> u64 {
    let mut hasher = DefaultHasher::new();
    [HALF, FORMAT, ACCESSORS, WHEELS].hash(&mut hasher);
    hasher.finish()
}

/// A file and what is in it.
type Written = (PathBuf, String);

/// Whether a file is there, as it would be written now.
fn is_written((path, text): &Written) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == *text)
}

fn write((path, text): &Written) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The configuration by which programs for this machine link MLX. It is written last: where it is, all is.
fn linux_config() -> Result<Written> {
    let (folder, wheels) = (folder()?, unpacked()?);
    let [own, mlx, others] = [
        folder.join("lib"),
        wheels.join("mlx/lib"),
        wheels.join("mlx_cpu.libs"),
    ]
    .map(|folder| folder.display().to_string());
    let out = bindings()?.display().to_string();
    let paths = format!("-Clink-arg=-Wl,-rpath,{mlx},-rpath-link,{others}");
    let text = format!(
        "# {:016x}\n\
         [target.x86_64-unknown-linux-gnu.mlx]\n\
         rustc-link-search = [{:?}, {:?}]\n\
         rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\", \"dylib=stdc++\"]\n\
         rustc-env = {{ OUT_DIR = {out:?} }}\n\
         [target.x86_64-unknown-linux-gnu]\n\
         rustflags = [\"--cfg=mlx_on_linux\", {paths:?}]\n",
        mark(),
        format!("native={own}"),
        format!("native={mlx}"),
    );
    Ok((folder.join("linux.toml"), text))
}

/// The configuration for [`super::run`].
pub(super) fn for_linux() -> Result<PathBuf> {
    Ok(linux_config()?.0)
}

/// The configuration by which code for Apple's MLX is checked, and nothing linked.
fn apple_config() -> Result<Written> {
    let out = bindings()?.display().to_string();
    let text = format!(
        "# {:016x}\n[target.aarch64-apple-darwin.mlx]\nrustc-env = {{ OUT_DIR = {out:?} }}\n",
        mark()
    );
    Ok((folder()?.join("apple.toml"), text))
}

/// The configuration for checking code for Apple's MLX.
pub(crate) fn for_apple() -> Result<PathBuf> {
    Ok(apple_config()?.0)
}

/// Whether [`install_bindings`] was here.
pub(crate) fn bindings_are_made() -> bool {
    apple_config().is_ok_and(|config| is_written(&config))
}

/// Whether [`install_library`] was here.
pub(crate) fn library_is_built() -> bool {
    linux_config().is_ok_and(|config| is_written(&config))
}

/// Fetches the wheels, and makes the bindings of mlx-c.
pub(crate) fn install_bindings() -> Result<()> {
    let (folder, out) = (folder()?, bindings()?);
    for folder in [&folder, &out] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fetch_wheels(&folder)?;
    let bindgen = install_bindgen(&folder)?;
    println!("setup: bindings of mlx-c");
    let sources = sources()?;
    let mut headers = files_in(&sources.join("mlx/c"), "h")?;
    headers.sort();
    let includes = headers.iter().filter_map(|header| {
        let header = header.strip_prefix(&sources).ok()?;
        Some(format!("#include \"{}\"\n", header.display()))
    });
    let all = (out.join("all.h"), includes.collect());
    let half = (out.join("half.h"), HALF.to_owned());
    write(&all)?;
    write(&half)?;
    let own_headers = Command::new("c++")
        .arg("-print-file-name=include")
        .output()
        .context("cannot run c++")?;
    let own_headers = String::from_utf8_lossy(&own_headers.stdout)
        .trim()
        .to_owned();
    let mut bindgen = Command::new(bindgen);
    bindgen
        .arg(&all.0)
        .arg("-o")
        .arg(out.join("bindings.rs"))
        .args(["--rust-target", "1.73", "--formatter", "none"])
        .args(["--allowlist-file", ".*/mlx/c/.*|.*/half.h"])
        .arg("--")
        .arg(format!("-I{}", sources.display()))
        .arg("-include")
        .arg(&half.0)
        .args(["-isystem", &own_headers])
        .env("LIBCLANG_PATH", libclang()?);
    finish(&mut bindgen, "bindgen")?;
    write(&apple_config()?)
}

/// Compiles mlx-c, with what it lacks on this machine.
pub(crate) fn install_library() -> Result<()> {
    println!("setup: mlx-c, for the CPUs of Linux");
    let (folder, sources) = (folder()?, sources()?);
    let lib = folder.join("lib");
    std::fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    let accessors = (folder.join("accessors.cpp"), ACCESSORS.to_owned());
    let format = (folder.join("format.h"), FORMAT.to_owned());
    write(&accessors)?;
    write(&format)?;
    // As one file: what takes the time are the headers that each of them would read again.
    let mut files = files_in(&sources.join("mlx/c"), "cpp")?;
    files.sort();
    files.push(accessors.0);
    let includes = files
        .iter()
        .map(|file| format!("#include \"{}\"\n", file.display()));
    let all = (folder.join("mlxc.cpp"), includes.collect());
    write(&all)?;
    let object = folder.join("mlxc.o");
    let mut compile = Command::new("c++");
    compile
        .args(["-std=c++20", "-O1", "-fPIC", "-c"])
        .arg(format!("-I{}", sources.display()))
        .arg("-isystem")
        .arg(unpacked()?.join("mlx/include"))
        .arg("-include")
        .arg(&format.0)
        .arg(&all.0)
        .arg("-o")
        .arg(&object);
    finish(&mut compile, "c++")?;
    let mut archive = Command::new("ar");
    archive.arg("rcs").arg(lib.join("libmlxc.a")).arg(&object);
    finish(&mut archive, "ar")?;
    write(&linux_config()?)
}

/// Downloads MLX and libclang, checked by their hashes, and unpacks them: nothing is installed.
fn fetch_wheels(folder: &Path) -> Result<()> {
    println!("setup: pip download mlx-cpu libclang");
    let list = (folder.join("wheels.txt"), WHEELS.to_owned());
    write(&list)?;
    let downloads = folder.join("downloads");
    let mut download = Command::new("python3");
    download
        .args(["-m", "pip", "--quiet", "--disable-pip-version-check"])
        .args([
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ])
        .arg("--requirement")
        .arg(&list.0)
        .arg("--dest")
        .arg(&downloads);
    finish(&mut download, "pip download")?;
    for wheel in files_in(&downloads, "whl")? {
        let mut unpack = Command::new("python3");
        unpack.args(["-m", "zipfile", "-e"]);
        unpack.arg(wheel).arg(unpacked()?);
        finish(&mut unpack, "python3 -m zipfile")?;
    }
    std::fs::remove_dir_all(&downloads)
        .with_context(|| format!("cannot remove {}", downloads.display()))
}

/// The folder of libclang.so.
fn libclang() -> Result<PathBuf> {
    let folders = std::fs::read_dir(unpacked()?).context("no wheels were unpacked")?;
    folders
        .flatten()
        .map(|folder| folder.path().join("platlib/clang/native"))
        .find(|folder| folder.exists())
        .context("the package libclang has no libclang")
}

/// Compiles bindgen's program, unless that was done before.
fn install_bindgen(folder: &Path) -> Result<PathBuf> {
    let tools = folder.join("tools");
    let program = tools.join("bin/bindgen");
    if program.exists() {
        return Ok(program);
    }
    println!("setup: cargo install bindgen-cli {BINDGEN}");
    let mut install = Command::new(cargo());
    install
        .args(["install", "--quiet", "--debug", "bindgen-cli"])
        .args(["--version", BINDGEN])
        .args(["--no-default-features", "--features=runtime"])
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(tools.join("build"));
    finish(&mut install, "cargo install")?;
    std::fs::remove_dir_all(tools.join("build"))
        .with_context(|| format!("cannot tidy {}", tools.display()))?;
    Ok(program)
}

/// The sources of mlx-c, where cargo has unpacked `mlx-sys`.
fn sources() -> Result<PathBuf> {
    let metadata = metadata()?;
    let manifest = format!("/mlx-sys-{SYS}/Cargo.toml");
    let package =
        strings_in(&metadata, "manifest_path").find_map(|path| path.strip_suffix(&manifest));
    let package = package
        .with_context(|| format!("Cargo.lock has no mlx-sys {SYS}, which this set-up is for"))?;
    Ok(Path::new(package)
        .join(format!("mlx-sys-{SYS}"))
        .join("src/mlx-c"))
}

/// The files of a folder with an extension.
fn files_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect())
}
