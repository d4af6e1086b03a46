//! SOCK_SEQPACKET: one packet in, one packet out, with the descriptors that travel beside it. Done by hand because a
//! distrusted peer chooses what arrives: every descriptor the kernel installed is owned here before anything is
//! judged, so a refused packet leaks none, and a packet that was cut short is told from one that was not.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket, socketpair,
};
use tokio::io::unix::AsyncFd;

/// The most descriptors a packet may carry at all; the cap of the conversations is lower (`ipc::DESCRIPTORS_MAX`).
pub const DESCRIPTORS_ROOM: usize = 4;

/// What one packet brought.
#[derive(Debug)]
pub struct Packet {
    /// Bytes now in the caller's buffer.
    pub len: usize,
    /// The packet was longer than the buffer; the rest is lost.
    pub cut: bool,
    /// More descriptors were sent than there is room for; the kernel dropped the others.
    pub descriptors_cut: bool,
    pub descriptors: Vec<OwnedFd>,
}

/// Two connected ends.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// A listening socket at `path`, which must not exist.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(32)?)?;
    Ok(fd)
}

/// Connects to the socket at `path`.
pub fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Accepts one connection; blocking or not as the listener is.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: null address pointers are allowed; the result is checked before it is owned.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `fd` for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `bytes` as one packet. A peer that is gone is `BrokenPipe`, never a signal.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_ROOM {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::new();
    // SAFETY: msghdr is plain data for which all zeros is the empty value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let payload = size_of_val(descriptors) as u32;
        message.msg_control = control.as_mut_ptr();
        // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic. CMSG_FIRSTHDR points into `control`, which has room for
        // DESCRIPTORS_ROOM descriptors (checked above) and is aligned for a header.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(payload) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, descriptor) in descriptors.iter().enumerate() {
                data.add(i).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    loop {
        // SAFETY: `message` points at live buffers of the stated lengths for the duration of the call.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            // A packet goes whole or not at all.
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // The peer closed its end with packets of ours unread: gone, too.
            Some(libc::ECONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
            _ => return Err(error),
        }
    }
}

/// How many bytes the next packet has, waiting for one as [`receive`] does; `None` or 0 if the peer is gone. Whoever is alone in
/// receiving receives that packet next.
pub fn next_len(fd: BorrowedFd<'_>) -> io::Result<Option<usize>> {
    // SAFETY: no byte is written to a buffer of no length; MSG_TRUNC asks for the packet's own.
    received(|| unsafe { libc::recv(fd.as_raw_fd(), ptr::null_mut(), 0, libc::MSG_PEEK | libc::MSG_TRUNC) })
}

/// Receives one packet into `buffer`. `None`: the peer is gone (or sent an empty packet, which no conversation has).
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control::new();
    // SAFETY: as in `send`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr();
    message.msg_controllen = Control::LEN as _;
    // SAFETY: `message` points at live, writable buffers of the stated lengths for the duration of the call.
    let len = received(|| unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) })?;
    let Some(len) = len else { return Ok(None) };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel wrote well-formed control messages of msg_controllen bytes in all. Each descriptor in an
    // SCM_RIGHTS message is new and ours; it is read and owned exactly once.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    if len == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    Ok(Some(Packet {
        len,
        cut: message.msg_flags & libc::MSG_TRUNC != 0,
        descriptors_cut: message.msg_flags & libc::MSG_CTRUNC != 0,
        descriptors,
    }))
}

/// What a receiving call answers, asked again after a signal. `None`: the peer closed its end with packets of ours unread. The
/// kernel says that once: whoever asked again would get its last packets.
fn received(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<Option<usize>> {
    loop {
        let len = call();
        if len >= 0 {
            return Ok(Some(len as usize));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECONNRESET) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Bounds blocking sends and receives; past it they end with `WouldBlock`. `None`: no bound.
pub fn set_deadline(fd: BorrowedFd<'_>, deadline: Option<Duration>) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike};
    // A zero timeval would mean "for ever" to the kernel.
    let micros = deadline.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX).max(1));
    let time = TimeVal::microseconds(micros);
    setsockopt(&fd, sockopt::ReceiveTimeout, &time)?;
    setsockopt(&fd, sockopt::SendTimeout, &time)?;
    Ok(())
}

/// Registers `fd` with the runtime of the calling task, which must have its I/O driver on.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, always the same, and stays open until the `AsyncFd` drops it.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// Room for one SCM_RIGHTS message, aligned as a control header must be.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    bytes: [MaybeUninit<u8>; Control::LEN],
}

impl Control {
    // SAFETY: CMSG_SPACE is arithmetic.
    const LEN: usize = unsafe { libc::CMSG_SPACE((DESCRIPTORS_ROOM * size_of::<RawFd>()) as u32) } as usize;

    fn new() -> Self {
        // SAFETY: all zeros is a valid value of either member; padding sent to the kernel is thus not left over stack.
        unsafe { std::mem::zeroed() }
    }

    fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        ptr::from_mut(self).cast()
    }
}
