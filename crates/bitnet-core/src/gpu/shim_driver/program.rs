//! Kernels as shared libraries, made by clang, and kept between runs beside the C++ that they are made of.

use super::translation::translated;
use crate::gpu::kernel::Source;
use crate::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, OsString, c_char};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::NonNull;

macro_rules! shim {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../shaders-metal/shim/",
                $name
            )),
        )
    };
}

/// The files that stand for Metal's standard library.
const FILES: [(&str, &str); 4] = [
    shim!("metal_stdlib"),
    shim!("runtime.h"),
    shim!("runtime.cpp"),
    shim!("switch.h"),
];

/// Every warning is an error, but for attributes that only Metal knows. Floats are those of IEEE, nothing contracted, and a
/// half is rounded to a half. No call is put on a way of its own for some threads, where others would not meet them.
const FLAGS: [&str; 16] = [
    "-xc++",
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-fsigned-char",
    "-fno-exceptions",
    "-ffp-contract=off",
    "-Xclang",
    "-ffloat16-excess-precision=none",
    "-Xclang",
    "-fconvergent-functions",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-attributes",
    "-fno-strict-aliasing",
];

/// Names of the compiler, the preferred one first. Before version 16 it has no halves.
const NAMES: [&str; 8] = [
    "clang++-19",
    "clang++-22",
    "clang++-21",
    "clang++-20",
    "clang++-18",
    "clang++-17",
    "clang++-16",
    "clang++",
];

/// Makes programs.
pub(super) struct Compiler {
    clang: OsString,
    version: String,
    folder: PathBuf,
    runtime: PathBuf,
}

type Run = unsafe extern "C" fn(*const *mut u8, *const u32, u32, u32) -> *const c_char;

/// A kernel that can be run.
pub(super) struct Program {
    run: Run,
    /// Keeps the function where it is.
    _library: Library,
}

fn unavailable(why: String) -> Error {
    Error::Unavailable {
        what: "Metal's kernels on the processor".into(),
        why,
    }
}

fn digest(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Compiler {
    /// Finds clang, and makes what all programs share.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none, or no folder for programs.
    pub(super) fn find() -> Result<Self> {
        let (clang, version) = NAMES
            .into_iter()
            .find_map(|name| Some((name, version(name)?)))
            .ok_or_else(|| {
                unavailable("there is no clang++ (`cargo xtask setup` installs it)".into())
            })?;
        let folders = directories::BaseDirs::new()
            .ok_or_else(|| unavailable("there is no home folder".into()))?;
        let files = FILES.map(|(_, text)| text);
        let shim = digest(&[&[version.as_str()], &files[..], &FLAGS[..]].concat());
        let folder = folders
            .cache_dir()
            .join(format!("bitnet-rust/metal-shim/{shim:016x}"));
        let failed = |error: std::io::Error| unavailable(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for (name, text) in FILES {
            put(&folder.join(name), text).map_err(failed)?;
        }
        let compiler = Self {
            clang: clang.into(),
            version,
            runtime: folder.join("runtime.so"),
            folder,
        };
        if !compiler.runtime.exists() {
            let source = compiler.folder.join("runtime.cpp");
            compiler
                .link(&compiler.runtime, &source, &[])
                .map_err(unavailable)?;
        }
        Ok(compiler)
    }

    /// The first line that the compiler says of itself.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// A kernel as a program.
    ///
    /// # Errors
    /// [`Error::Refused`], with the kernel's name and what the compiler says.
    pub(super) fn compile(&self, source: &Source) -> Result<Program> {
        let refused = |why: String| Error::Refused {
            why: format!("the kernel {} does not compile: {why}", source.name),
        };
        let text = translated(source).map_err(refused)?;
        let stem = format!("{}-{:016x}", source.name, digest(&[&text]));
        let code = self.folder.join(format!("{stem}.cpp"));
        let library = self.folder.join(format!("{stem}.so"));
        if !library.exists() {
            put(&code, &text).map_err(|error| refused(error.to_string()))?;
            let spaces = ["-fsyntax-only", "-DADDRESS_SPACES"].map(OsString::from);
            self.call(&[&spaces[..], &[code.clone().into()]].concat())
                .map_err(refused)?;
            // By its path, which all programs have in common: so its threads are, too.
            let runtime = [self.runtime.clone().into(), OsString::from("-lm")];
            self.link(&library, &code, &runtime).map_err(refused)?;
        }
        Program::load(&library).map_err(refused)
    }

    /// Makes a library of `source` and `others`. It is whole as soon as it is there.
    fn link(&self, target: &Path, source: &Path, others: &[OsString]) -> Result<(), String> {
        let unfinished = unfinished(target);
        let mut arguments = vec![
            OsString::from("-shared"),
            // Nothing of C++ beyond the language is used.
            OsString::from("-nostdlib++"),
            source.into(),
        ];
        if !others.is_empty() {
            // These are no C++.
            arguments.push(OsString::from("-xnone"));
            arguments.extend_from_slice(others);
        }
        arguments.extend([OsString::from("-o"), unfinished.clone().into()]);
        self.call(&arguments)?;
        std::fs::rename(&unfinished, target).map_err(|error| error.to_string())
    }

    fn call(&self, arguments: &[OsString]) -> Result<(), String> {
        let output = Command::new(&self.clang)
            .args(FLAGS)
            .arg("-I")
            .arg(&self.folder)
            .args(arguments)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// Where a file is written before it is whole.
fn unfinished(path: &Path) -> PathBuf {
    let writer = (std::process::id(), std::thread::current().id());
    path.with_extension(format!("{writer:?}"))
}

/// Writes a file, which is whole as soon as it is there, unless it is there.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let unfinished = unfinished(path);
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}

/// What the compiler of this name says of itself, if there is one that has halves.
fn version(name: &str) -> Option<String> {
    let output = Command::new(name).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?.to_owned();
    let number = line.split("version ").nth(1)?;
    let major: u32 = number.split('.').next()?.parse().ok()?;
    (major >= 16).then_some(line)
}

impl Program {
    fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: the library was made by this program from its own kernels and runs nothing when loaded.
        let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
        // SAFETY: the launcher that translation.rs adds has this name and this signature.
        let run = unsafe { library.get::<Run>(b"run\0") }.map(|run| *run);
        Ok(Self {
            run: run.map_err(|error| error.to_string())?,
            _library: library,
        })
    }

    /// Runs it on buffers that begin at `places`, with its threads in one of the orders that `runtime.h` knows.
    ///
    /// # Errors
    /// What its threads did wrong.
    pub(super) fn run(
        &self,
        places: Vec<*mut u8>,
        groups: [u32; 3],
        threads: u32,
        order: u32,
    ) -> Result<(), String> {
        // SAFETY: the kernel finds a buffer for each of its bindings, of the size that the host bound, which is what it is
        // written for; a faulty one is caught by the fences around, or crashes a test.
        let complaint = unsafe { (self.run)(places.as_ptr(), groups.as_ptr(), threads, order) };
        match NonNull::new(complaint.cast_mut()) {
            None => Ok(()),
            Some(complaint) => {
                // SAFETY: a text that ends with a zero and stays until this thread runs another kernel.
                let text = unsafe { CStr::from_ptr(complaint.as_ptr()) };
                Err(text.to_string_lossy().into_owned())
            }
        }
    }
}
