//! llama.cpp's llama-bench, llama-batched-bench and llama-server, built once from the source package that PyPI carries (`llama-cpp-python`), outside the
//! repository.
//!
//! In `$XDG_CACHE_HOME` or `~/.cache`, under `bitnet-rust/peers`: `venv` holds pip, cmake and ninja, `llama.cpp-VERSION` the
//! source and the build.

use crate::program::{cache, finish, succeeds};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version of the source package. A figure is about one version; a later one is another figure.
const VERSION: &str = "0.3.36";

/// What the build needs from PyPI: the package's own build system, which pip asks for its name, and two tools.
const TOOLS: [&str; 3] = ["scikit-build-core", "cmake", "ninja"];

/// Switches of the build: the processor's own instructions, one program without libraries, nothing that is not measured.
const SWITCHES: [&str; 9] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_FLAGS_RELEASE=-O3 -DNDEBUG",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O3 -DNDEBUG",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_TOOLS=ON",
];

/// The programs, as they are built.
const PROGRAMS: [&str; 3] = ["llama-bench", "llama-batched-bench", "llama-server"];

/// Built programs.
pub(crate) struct Built {
    /// One sequence.
    pub(crate) bench: PathBuf,
    /// Many at once.
    pub(crate) batched_bench: PathBuf,
    /// Many users, over HTTP.
    pub(crate) server: PathBuf,
    /// Which version, and how it was built.
    pub(crate) description: String,
}

/// Builds the programs, unless that was done before.
pub(crate) fn install() -> Result<Built> {
    let cache = cache()?.join("peers");
    let root = cache.join(format!("llama.cpp-{VERSION}"));
    let build = root.join("build");
    let suffix = std::env::consts::EXE_SUFFIX;
    let [bench, batched_bench, server] =
        PROGRAMS.map(|program| build.join("bin").join(format!("{program}{suffix}")));
    let fails = || {
        let mut programs = [&bench, &batched_bench, &server].into_iter();
        programs.find(|program| !succeeds(Command::new(program).arg("--help")))
    };
    if fails().is_some() {
        std::fs::create_dir_all(&root)
            .with_context(|| format!("cannot make {}", root.display()))?;
        make(&cache, &root, &build)?;
        if let Some(program) = fails() {
            bail!("{} was built but does not run", program.display());
        }
    }
    let compiler = compiler(&build).unwrap_or_else(|| "a compiler that is not known".to_owned());
    Ok(Built {
        bench,
        batched_bench,
        server,
        description: format!(
            "llama-bench, llama-batched-bench and llama-server of llama-cpp-python {VERSION}, built by {compiler} with -O3 for this processor"
        ),
    })
}

fn make(cache: &Path, root: &Path, build: &Path) -> Result<()> {
    let venv = cache.join("venv");
    let folder = venv.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let tool = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let python = tool("python");
    if !succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        say("a Python environment for the build tools");
        let mut command = Command::new(if cfg!(windows) { "python" } else { "python3" });
        command.args(["-m", "venv", "--clear"]).arg(&venv);
        finish(&mut command, "python3 -m venv").context(
            "Python 3 with venv is needed to fetch the source (Debian: apt-get install python3-venv)",
        )?;
    }
    let pip = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        command.args(arguments);
        command
    };
    if !succeeds(Command::new(tool("cmake")).arg("--version"))
        || !succeeds(Command::new(tool("ninja")).arg("--version"))
    {
        say(&format!("installing {} from PyPI", TOOLS.join(", ")));
        let mut command = pip(&["install"]);
        finish(command.args(TOOLS), "pip install")?;
    }

    let package = format!("llama_cpp_python-{VERSION}");
    let source = root.join(&package).join("vendor").join("llama.cpp");
    if !source.join("CMakeLists.txt").is_file() {
        say(&format!(
            "fetching the source package llama-cpp-python {VERSION}"
        ));
        let mut download = pip(&["download", "--no-deps", "--no-build-isolation"]);
        download.args(["--no-binary", "llama-cpp-python"]);
        download.arg(format!("llama-cpp-python=={VERSION}"));
        // pip asks the build system for the package's name, and that looks for its tools on the path.
        download.env("PATH", path_with(&folder)?);
        finish(download.arg("--dest").arg(root), "pip download")?;
        let mut unpack = Command::new(&python);
        unpack.args(["-m", "tarfile", "-e"]);
        unpack.arg(root.join(format!("{package}.tar.gz"))).arg(root);
        finish(&mut unpack, "python -m tarfile")?;
    }

    say("building its benchmarks, once; this takes some minutes");
    let mut configure = Command::new(tool("cmake"));
    configure.args(["-G", "Ninja"]).args(SWITCHES);
    configure.arg(format!("-DCMAKE_MAKE_PROGRAM={}", tool("ninja").display()));
    configure.arg("-S").arg(&source).arg("-B").arg(build);
    finish(configure.stdout(Stdio::null()), "cmake")
        .context("a C++ compiler is needed (Debian: apt-get install g++)")?;
    let mut compile = Command::new(tool("cmake"));
    compile.arg("--build").arg(build);
    finish(compile.arg("--target").args(PROGRAMS), "cmake --build")
}

fn say(what: &str) {
    println!("bench-peers: llama.cpp: {what}");
}

/// The search path with `folder` before all else.
fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("a folder of the search path cannot be in one")
}

/// The C++ compiler that cmake found.
fn compiler(build: &Path) -> Option<String> {
    // CMakeFiles/VERSION-OF-CMAKE/CMakeCXXCompiler.cmake
    let folders = std::fs::read_dir(build.join("CMakeFiles")).ok()?;
    let texts = folders.filter_map(|folder| {
        let file = folder.ok()?.path().join("CMakeCXXCompiler.cmake");
        std::fs::read_to_string(file).ok()
    });
    texts.filter_map(|text| compiler_in(&text)).next()
}

fn compiler_in(text: &str) -> Option<String> {
    let value = |name: &str| {
        let rest = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("set({name} \"")))?;
        rest.split('"').next()
    };
    Some(format!(
        "{} {}",
        value("CMAKE_CXX_COMPILER_ID")?,
        value("CMAKE_CXX_COMPILER_VERSION")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_named() {
        let text = "set(CMAKE_CXX_COMPILER \"/usr/bin/c++\")\nset(CMAKE_CXX_COMPILER_ARG1 \"\")\n\
                    set(CMAKE_CXX_COMPILER_ID \"GNU\")\nset(CMAKE_CXX_COMPILER_VERSION \"12.2.0\")\n";
        assert_eq!(compiler_in(text).as_deref(), Some("GNU 12.2.0"));
        assert_eq!(compiler_in("set(CMAKE_CXX_COMPILER_ID \"GNU\")"), None);
    }
}
