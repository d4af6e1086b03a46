//! The TCP stream of a session. russh reads each packet in two steps, four bytes of length and then the body; here one
//! system call takes both: what is asked for goes straight to where it is wanted, and the beginning of what comes after it
//! into a buffer of ours. The bulk of a large packet is copied once, by the kernel.

use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What may come beyond what is asked for: small packets are read many at a time, and of a large one, 32 KiB with OpenSSH, little
/// is copied a second time.
const AHEAD: usize = 8 << 10;

pub struct Stream {
    tcp: TcpStream,
    ahead: Box<[u8]>,
    /// What of it has come and was not asked for yet.
    from: usize,
    to: usize,
}

impl Stream {
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: vec![0; AHEAD].into_boxed_slice(), from: 0, to: 0 }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.from < this.to {
            let len = out.remaining().min(this.to - this.from);
            out.put_slice(&this.ahead[this.from..this.from + len]);
            this.from += len;
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.tcp.poll_read_ready(cx))?;
            let asked = out.initialize_unfilled();
            let wanted = asked.len();
            let read = this.tcp.try_read_vectored(&mut [IoSliceMut::new(asked), IoSliceMut::new(&mut this.ahead)]);
            match read {
                Ok(len) => {
                    out.advance(len.min(wanted));
                    (this.from, this.to) = (0, len.saturating_sub(wanted));
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// However it is cut on either side: nothing lost, nothing twice, and the end is seen.
    #[tokio::test]
    async fn what_was_sent_is_read_in_order() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        let sending = sent.clone();
        let task = tokio::spawn(async move {
            for (number, piece) in sending.chunks(70_001).enumerate() {
                for part in piece.chunks(1 + number * 9_973) {
                    client.write_all(part).await.unwrap();
                }
            }
        });
        let (mut stream, mut read) = (Stream::new(tcp), Vec::new());
        for len in [4, 1, 262_144, 4, 31, 33_000, 4, 100_000].into_iter().cycle() {
            let mut piece = vec![0; len.min(sent.len() - read.len())];
            if piece.is_empty() {
                break;
            }
            stream.read_exact(&mut piece).await.unwrap();
            read.extend_from_slice(&piece);
        }
        task.await.unwrap();
        assert!(read == sent);
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    }
}
