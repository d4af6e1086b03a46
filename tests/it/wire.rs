//! SFTP by hand over OpenSSH's `ssh -s`: requests that no stock client sends, and replies that are not read.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::user::User;

pub const STAT: u8 = 17;

/// One SFTP channel; VERSION has been received.
pub struct Wire {
    child: Child,
    input: Option<ChildStdin>,
}

impl Wire {
    pub fn open(user: User<'_>) -> Self {
        let mut command = Command::new("ssh");
        command.args(user.ssh_options()).args(["-s", &user.target(), "sftp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ssh");
        let input = child.stdin.take();
        let mut wire = Self { child, input };
        wire.send(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).expect("ssh takes it");
        assert_eq!(wire.receive()[0], 2, "VERSION");
        wire
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(bytes)?;
        input.flush()
    }

    /// Sends a request and waits for its reply: its kind and what follows its id.
    #[track_caller]
    pub fn ask(&mut self, kind: u8, fields: &[u8]) -> (u8, Vec<u8>) {
        self.send(&request(kind, fields)).expect("ssh takes it");
        let reply = self.receive();
        (reply[0], reply[5..].to_vec())
    }

    #[track_caller]
    fn receive(&mut self) -> Vec<u8> {
        let output = self.child.stdout.as_mut().expect("a pipe");
        let mut length = [0; 4];
        output.read_exact(&mut length).expect("a reply");
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        output.read_exact(&mut packet).expect("a reply");
        packet
    }

    /// Another hand that sends, while this one does not read.
    pub fn take_input(&mut self) -> ChildStdin {
        self.input.take().expect("it is open")
    }

    pub fn is_connected(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits until the connection has ended; what `ssh` said of it.
    pub fn end(mut self) -> String {
        let mut said = String::new();
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut said).expect("what ssh says");
        said
    }
}

/// A request of any kind with the id 7.
pub fn request(kind: u8, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 5).expect("a short packet");
    [&length.to_be_bytes()[..], &[kind, 0, 0, 0, 7], fields].concat()
}

pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("a short string").to_be_bytes()[..], bytes].concat()
}

/// The code of a STATUS.
#[track_caller]
pub fn status((kind, fields): (u8, Vec<u8>)) -> u32 {
    assert_eq!(kind, 101, "a status: {fields:?}");
    u32::from_be_bytes(fields[..4].try_into().expect("a code"))
}

/// The handle of a HANDLE, as a string again.
#[track_caller]
pub fn handle((kind, fields): (u8, Vec<u8>)) -> Vec<u8> {
    assert_eq!(kind, 102, "a handle: {fields:?}");
    fields
}

/// A client that is let go of is killed: it may wait for us to read.
impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
