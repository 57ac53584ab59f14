use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::TaskResult;

/// Returns a command that runs this cargo in the workspace's root.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Returns a command that runs a program in the workspace's root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Prints a command and runs it to its end. Its output goes to ours.
pub(crate) fn run(command: &mut Command) -> TaskResult {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .map_err(|error| format!("`{shown}` did not start: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`{shown}` failed: {status}")),
    }
}

/// Prints a command and starts it. Its output goes to a file.
pub(crate) fn start(command: &mut Command, output: &Path) -> TaskResult<Child> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let file = File::create(output).and_then(|file| Ok((file.try_clone()?, file)));
    let (stdout, stderr) = file.map_err(|error| format!("{}: {error}", output.display()))?;
    let child = command.stdout(stdout).stderr(stderr).spawn();
    child.map_err(|error| format!("`{shown}` did not start: {error}"))
}

/// Runs a command to its end. Returns its output: stdout and stderr.
pub(crate) fn read(command: &mut Command) -> TaskResult<(String, String)> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{shown}` did not start: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    match output.status.success() {
        true => Ok((stdout, stderr)),
        false => Err(format!("`{shown}` failed: {}\n{stderr}", output.status)),
    }
}

/// Returns the path of a program that is in PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Returns the workspace's root: the parent of this package's folder.
pub(crate) fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}
