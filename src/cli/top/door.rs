//! How many connections wait in the listeners' queues, accepted by the kernel and not yet by the gate: what `ss -lt` shows.

use std::net::SocketAddr;

/// Of these addresses together; `None` where the kernel does not tell.
pub fn queue(listen: &[String]) -> Option<u64> {
    let ports: Vec<u16> =
        listen.iter().filter_map(|text| text.parse::<SocketAddr>().ok()).map(|at| at.port()).collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let mut read = tables.iter().filter_map(|table| table.as_ref().ok()).peekable();
    read.peek()?;
    Some(read.flat_map(|table| table.lines().skip(1)).filter_map(|line| waiting(line, &ports)).sum())
}

/// proc(5), `/proc/net/tcp`: of a socket that listens (state 0A) the receive queue is who waits.
fn waiting(line: &str, ports: &[u16]) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (local, state) = (fields.nth(1)?, fields.nth(1)?);
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    let queue = fields.next()?.split(':').nth(1)?;
    if state != "0A" || !ports.contains(&port) {
        return None;
    }
    u64::from_str_radix(queue, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_at_a_listener_is_read_from_the_kernels_table() {
        let listens = "   0: 0100007F:08AE 00000000:0000 0A 00000000:00000011 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0";
        let talks = "   1: 0100007F:08AE 0100007F:D5C0 01 00000000:00000005 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1";
        assert_eq!(waiting(listens, &[2222]), Some(17));
        assert_eq!(waiting(listens, &[22]), None);
        assert_eq!(waiting(talks, &[2222]), None);
        assert_eq!(waiting("", &[2222]), None);
    }

    #[test]
    fn connections_that_nobody_accepts_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        assert_eq!(queue(&[address.to_string()]), Some(3));
    }
}
