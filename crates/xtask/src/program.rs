//! The programs of this workspace that a chore drives: built together, found, and run.

use crate::workspace::{cargo_with, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the `bitnet` command and the measuring programs alike, in one go, so that what they share is compiled once.
pub(crate) fn build() -> Result<()> {
    let mut build = cargo_with(&["build", "--release", "--features=measure"]);
    build.args(["--package=bitnet-cli", "--package=bitnet-benchmarks"]);
    finish(&mut build, "cargo build")
}

/// A measuring program, told where to write its report: in the release folder beside the one that this program is in. A `quick`
/// look leaves the results in `benches/report` alone: its report goes to the target folder.
pub(crate) fn measuring(name: &str, quick: bool) -> Result<Command> {
    let target = target_folder()?;
    let mut command = Command::new(target.join("release").join(file_name(name)));
    command.arg("--report");
    if quick {
        command.arg(target.join("report")).arg("--quick");
    } else {
        command.arg(workspace().join("benches/report"));
    }
    Ok(command)
}

/// The folder that cargo builds into: the one that the folder of this program is in.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    own.parent()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .with_context(|| format!("{} is in no target folder", own.display()))
}

/// Where things are kept that outlive a clone: in `$XDG_CACHE_HOME` or `~/.cache`, under `bitnet-rust`.
pub(crate) fn cache() -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = match (named("XDG_CACHE_HOME"), named("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME says where to build"),
    };
    Ok(cache.join("bitnet-rust"))
}

/// What cargo says of this workspace and all its dependencies, as JSON.
pub(crate) fn metadata() -> Result<String> {
    let output = cargo_with(&["metadata", "--format-version=1", "--all-features"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("cargo metadata failed: {said}");
    }
    String::from_utf8(output.stdout).context("cargo metadata printed something else than text")
}

/// The strings that `metadata` has under `key`.
pub(crate) fn strings_in<'a>(metadata: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!("\"{key}\":\"");
    let parts: Vec<&str> = metadata.split(begin.as_str()).skip(1).collect();
    parts.into_iter().filter_map(|rest| rest.split('"').next())
}

/// How the file of a program is called on this system.
pub(crate) fn file_name(program: &str) -> String {
    format!("{program}{}", std::env::consts::EXE_SUFFIX)
}

/// Removes a folder and all that is in it; one that is not there is no error.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Runs `command`, which errors call `name`, to its end.
pub(crate) fn finish(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {name} ({})", command.get_program().display()))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Shows `command` and runs it to its end.
pub(crate) fn carry_out(mut command: Command) -> Result<()> {
    let words = shown(&command);
    println!("$ {words}");
    finish(&mut command, &words)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![
        program
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Whether `command` can be run and exits with 0; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
