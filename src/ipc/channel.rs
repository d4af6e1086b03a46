//! The wire under every conversation: one message is one SOCK_SEQPACKET packet of postcard, at most
//! [`MESSAGE_MAX`] bytes, with at most [`DESCRIPTORS_MAX`] descriptors beside it. What does not decode to the last
//! byte, is too long, or carries more descriptors than that is an error, and the caller ends that peer.
//! Buffers that a message passed through are wiped, since some carry keys. [`Socket`] blocks; [`AsyncSocket`] waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;
use zeroize::Zeroizing;

use super::{DESCRIPTORS_MAX, MESSAGE_MAX};
use crate::sys::packet::{self, Packet};

/// How long a send waits for room in the peer's queue before the peer counts as stuck. A queue holds at least three
/// of the largest messages, and both sides read whenever they are not computing, so seconds mean something is wrong.
pub const SEND_DEADLINE: Duration = Duration::from_secs(10);

/// Why nothing could be received. All but `Io` are the peer's doing.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("receiving failed: {0}")]
    Io(#[from] io::Error),
    #[error("a message is longer than {MESSAGE_MAX} bytes")]
    TooLong,
    #[error("a message carries more than {DESCRIPTORS_MAX} descriptors")]
    TooManyDescriptors,
    #[error("a message does not decode")]
    Undecodable,
}

/// What `recv` gives: a message with its descriptors, or `None` when the peer is gone.
pub type Received<T> = Result<Option<(T, Vec<OwnedFd>)>, ChannelError>;

/// Two connected ends.
pub fn pair() -> io::Result<(Socket, Socket)> {
    let (a, b) = packet::pair()?;
    Ok((Socket(a), Socket(b)))
}

/// Connects to a [`Listener`] of another process.
pub fn connect(path: &Path) -> io::Result<Socket> {
    packet::connect_to(path).map(Socket)
}

/// One end, for code that may block.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Bounds each later `send` and `recv`; past it they end with `WouldBlock`.
    pub fn set_deadline(&self, deadline: Option<Duration>) -> io::Result<()> {
        packet::set_deadline(self.0.as_fd(), deadline)
    }

    pub fn send<T: Serialize + ?Sized>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(self.0.as_fd(), &encode(message, descriptors)?, descriptors)
    }

    pub fn recv<T: DeserializeOwned>(&self) -> Received<T> {
        receive(self.0.as_fd())
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One end, for code on a tokio runtime (with its I/O driver on). Both operations may be cancelled: a message is then
/// sent or received wholly, or not at all.
#[derive(Debug)]
pub struct AsyncSocket(AsyncFd<OwnedFd>);

impl AsyncSocket {
    pub fn new(socket: Socket) -> io::Result<Self> {
        crate::sys::files::set_nonblocking(socket.as_fd(), true)?;
        packet::watch(socket.0).map(Self)
    }

    /// Waits for room at the peer, at most [`SEND_DEADLINE`].
    pub async fn send<T: Serialize + ?Sized>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_within(message, descriptors, SEND_DEADLINE).await
    }

    async fn send_within<T: Serialize + ?Sized>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> io::Result<()> {
        let bytes = encode(message, descriptors)?;
        let sent = async {
            loop {
                let mut ready = self.0.writable().await?;
                if let Ok(result) = ready.try_io(|fd| packet::send(fd.as_fd(), &bytes, descriptors)) {
                    return result;
                }
            }
        };
        match tokio::time::timeout(deadline, sent).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its messages")),
        }
    }

    /// Sends if there is room at the peer now; `WouldBlock` if not.
    pub fn try_send<T: Serialize + ?Sized>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(self.0.as_fd(), &encode(message, descriptors)?, descriptors)
    }

    pub async fn recv<T: DeserializeOwned>(&self) -> Received<T> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| match receive(fd.as_fd()) {
                Err(ChannelError::Io(error)) => Err(error),
                other => Ok(other),
            }) {
                Ok(Ok(result)) => return result,
                Ok(Err(error)) => return Err(ChannelError::Io(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsFd for AsyncSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A listening socket in the file system, for the admin's commands. Who connects is told by
/// [`crate::sys::process::peer`]; who may connect at all is the mode of the socket and of its directory.
#[derive(Debug)]
pub struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Binds at `path`, which must not exist. The caller holds the state directory's lock, so that what it removed
    /// there was left over from a daemon that is gone.
    pub fn bind(path: &Path) -> io::Result<Self> {
        packet::watch(packet::listen_at(path)?).map(Self)
    }

    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(result) = ready.try_io(|fd| packet::accept(fd.as_fd())) {
                return result.map(Socket);
            }
        }
    }
}

fn encode<T: Serialize + ?Sized>(message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<Zeroizing<Vec<u8>>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(invalid("too many descriptors for one message"));
    }
    // Sized first, so that the buffer never grows and leaves a copy behind.
    let len = postcard::experimental::serialized_size(&message).map_err(|_| invalid("a message does not encode"))?;
    if len == 0 || len > MESSAGE_MAX {
        return Err(invalid("a message is too long, or empty"));
    }
    let mut bytes = Zeroizing::new(vec![0; len]);
    postcard::to_slice(&message, &mut bytes).map_err(|_| invalid("a message does not encode"))?;
    Ok(bytes)
}

fn receive<T: DeserializeOwned>(fd: BorrowedFd<'_>) -> Received<T> {
    // As long as the message: most have a few hundred bytes, and what is cleared before and wiped after is what is
    // allocated. It is wiped when it leaves scope, whatever is decided next.
    let Some(len) = packet::next_len(fd)? else { return Ok(None) };
    let mut bytes = Zeroizing::new(vec![0; len.min(MESSAGE_MAX)]);
    let Some(Packet { len, cut, descriptors_cut, descriptors }) = packet::receive(fd, &mut bytes)? else {
        return Ok(None);
    };
    bytes.truncate(len);
    if cut {
        return Err(ChannelError::TooLong);
    }
    if descriptors_cut || descriptors.len() > DESCRIPTORS_MAX {
        return Err(ChannelError::TooManyDescriptors);
    }
    match postcard::take_from_bytes(&bytes) {
        Ok((message, [])) => Ok(Some((message, descriptors))),
        Ok(_) | Err(_) => Err(ChannelError::Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_message_comes_back_with_its_descriptors() {
        let (a, b) = pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        a.send(&("hello".to_owned(), 7u32), &[null.as_fd(), null.as_fd()]).unwrap();
        let (message, descriptors) = b.recv::<(String, u32)>().unwrap().unwrap();
        assert_eq!(message, ("hello".to_owned(), 7));
        assert_eq!(descriptors.len(), 2);
    }

    #[test]
    fn a_peer_that_is_gone_is_none_and_writing_to_it_is_an_error() {
        let (a, b) = pair().unwrap();
        b.send(&1u8, &[]).unwrap();
        drop(a);
        assert_eq!(b.send(&1u8, &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(b.recv::<u8>().unwrap().is_none());
    }

    #[test]
    fn a_peer_that_went_with_messages_unread_is_gone_whatever_it_said_last() {
        let (a, b) = pair().unwrap();
        b.send(&1u8, &[]).unwrap();
        a.send(&"its last word".to_owned(), &[]).unwrap();
        drop(a);
        assert!(b.recv::<String>().unwrap().is_none());
    }

    #[test]
    fn an_overlong_message_is_refused_on_both_sides() {
        let (a, b) = pair().unwrap();
        let largest = vec![7u8; MESSAGE_MAX - 3];
        a.send(&largest, &[]).unwrap();
        assert_eq!(b.recv::<Vec<u8>>().unwrap().unwrap().0, largest);
        assert_eq!(a.send(&vec![7u8; MESSAGE_MAX], &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        packet::send(a.as_fd(), &vec![0; MESSAGE_MAX + 1], &[]).unwrap();
        assert!(matches!(b.recv::<Vec<u8>>(), Err(ChannelError::TooLong)));
    }

    #[test]
    fn trailing_bytes_unknown_tags_and_too_many_descriptors_are_refused() {
        let (a, b) = pair().unwrap();
        packet::send(a.as_fd(), &[1, 2], &[]).unwrap();
        assert!(matches!(b.recv::<u8>(), Err(ChannelError::Undecodable)));
        packet::send(a.as_fd(), &[200], &[]).unwrap();
        assert!(matches!(b.recv::<crate::ipc::gate::ToGate>(), Err(ChannelError::Undecodable)));
        let null = File::open("/dev/null").unwrap();
        packet::send(a.as_fd(), &[1], &[null.as_fd(); 3]).unwrap();
        assert!(matches!(b.recv::<u8>(), Err(ChannelError::TooManyDescriptors)));
        assert!(a.send(&1u8, &[null.as_fd(); 3]).is_err());
    }

    #[test]
    fn a_blocking_receive_ends_at_its_deadline() {
        let (a, _b) = pair().unwrap();
        a.set_deadline(Some(Duration::from_millis(1))).unwrap();
        assert!(matches!(a.recv::<u8>(), Err(ChannelError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock));
    }

    #[test]
    fn waiting_ends_carry_messages_both_ways_and_notice_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (a, b) = pair().unwrap();
            let (a, b) = (AsyncSocket::new(a).unwrap(), AsyncSocket::new(b).unwrap());
            let answer = async {
                let (n, _) = b.recv::<u32>().await.unwrap().unwrap();
                b.send(&(n + 1), &[]).await.unwrap();
            };
            let ask = async {
                a.send(&1u32, &[]).await.unwrap();
                a.recv::<u32>().await.unwrap().unwrap().0
            };
            assert_eq!(tokio::join!(ask, answer).0, 2);
            drop(b);
            assert!(a.recv::<u32>().await.unwrap().is_none());
        });
    }

    #[test]
    fn a_peer_that_never_reads_does_not_hold_a_sender_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (a, _b) = pair().unwrap();
            let a = AsyncSocket::new(a).unwrap();
            let large = vec![0u8; MESSAGE_MAX - 3];
            while a.try_send(&large, &[]).is_ok() {}
            let sent = a.send_within(&large, &[], Duration::from_millis(1)).await;
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn commands_connect_to_a_listener_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = Listener::bind(&path).unwrap();
            let command = connect(&path).unwrap();
            let served = listener.accept().await.unwrap();
            command.send(&5u8, &[]).unwrap();
            assert_eq!(served.recv::<u8>().unwrap().unwrap().0, 5);
        });
    }
}
