//! The stock clients, as the demo uses them: `sftp` and `ssh-keygen` from OpenSSH, and this program itself for what
//! it does offline. Each call is a process of its own, so that what the demo shows is what a user would see.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::cli::failure::Failure;

use super::place::Place;

/// Runs batch lines in one `sftp` session of `user`. Fails if the client does, with its last words.
pub fn sftp(place: &Place, user: &str, batch: &str) -> Result<String, Failure> {
    let output = try_sftp(place, user, batch)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format_args!("`sftp` as {user} ended with {}: {}", output.status, last_words(&output))))
}

/// The same, whatever comes of it.
pub fn try_sftp(place: &Place, user: &str, batch: &str) -> Result<Output, Failure> {
    let mut command = Command::new("sftp");
    command.arg("-b").arg("-").args(place.ssh_options(user)).arg(place.target(user));
    with_input(command, batch.as_bytes())
}

/// `ssh-keygen -Y verify`: does `signature` over `message` come from the server's receipt key?
pub fn verify(
    place: &Place,
    principal: &str,
    namespace: &str,
    message: &[u8],
    signature: &Path,
) -> Result<String, Failure> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-f"]).arg(place.allowed_signers());
    command.args(["-I", principal, "-n", namespace, "-s"]).arg(signature);
    let output = with_input(command, message)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(Failure::new(format_args!("`ssh-keygen -Y verify` does not accept the receipt: {}", last_words(&output))))
}

/// Runs a command with `input` on its standard input.
pub fn with_input(mut command: Command, input: &[u8]) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format_args!("`{program}` is not installed"))
            .hint("install OpenSSH's clients: `apt-get install openssh-client`"),
        _ => Failure::new(format_args!("cannot run `{program}`: {e}")),
    };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A client that ends early does not read it all: its exit status says more than this would.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output().map_err(cannot)
}

/// The last line a program wrote to its standard error.
pub fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned()
}
