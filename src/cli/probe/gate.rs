//! What the gate must do, tried on the real one: count, turn away, end a session, drain, and end with its keeper.

use std::io::{self, Read};
use std::net::TcpStream;

use super::Outcome;
use super::keeper::{Keeper, LIMITS};
use crate::ipc::gate::{Death, GateLimits, Limit, ToGate, ToKeeper};
use crate::sys::process;

type Check = fn(&mut Keeper) -> io::Result<()>;
type LastCheck = fn(Keeper) -> io::Result<()>;

/// Duties that leave the gate as it was.
pub const DUTIES: [(&str, Check); 4] = [
    ("turn away a connection over the limit of all", |keeper| {
        turned_away(keeper, GateLimits { connections: 1, ..LIMITS }, Limit::Connections)
    }),
    ("turn away a connection over the limit of one address", |keeper| {
        turned_away(keeper, GateLimits { per_address: 1, ..LIMITS }, Limit::PerAddress)
    }),
    ("end the session the keeper names", |keeper| {
        let (pid, _session, mut client) = keeper.connect()?;
        keeper.gate.send(&ToGate::Kill { pid }, &[])?;
        expect_death(keeper, pid)?;
        ended(&mut client)
    }),
    ("end nothing that is no session", |keeper| {
        keeper.gate.send(&ToGate::Kill { pid: 1 }, &[])?;
        keeper.gate.send(&ToGate::Kill { pid: i32::MAX }, &[])?;
        let (pid, _session, _client) = keeper.connect()?;
        keeper.gate.send(&ToGate::Kill { pid }, &[])?;
        expect_death(keeper, pid)
    }),
];

/// The gate's orderly end.
pub const DRAINS: (&str, LastCheck) = ("take none when draining, end after the last session", |mut keeper| {
    keeper.gate.send(&ToGate::Drain, &[])?;
    let Some((pid, session, client)) = keeper.sibling.take() else { return Err(io::Error::other("no session lives")) };
    // It ends when the keeper hangs up. Its death is told after the drain was obeyed, so the port is closed by then.
    drop(session);
    match keeper.hear()? {
        ToKeeper::Died { pid: died, how: Death::Exit(0) } if died == pid => {}
        other => return Err(io::Error::other(format!("the gate said {other:?}"))),
    }
    drop(client);
    if TcpStream::connect(keeper.address).is_ok() {
        return Err(io::Error::other("the port still takes connections"));
    }
    process::wait_for(keeper.yard.pid).and_then(|end| match end {
        process::End::Exit(0) => Ok(()),
        other => Err(io::Error::other(format!("the gate ended with {other:?}"))),
    })
});

/// Its end when the keeper is gone: nobody in the yard outlives it.
pub const ENDS: (&str, LastCheck) = ("end with the keeper, and every session with it", |mut keeper| {
    let Some((_, session, mut client)) = keeper.sibling.take() else {
        return Err(io::Error::other("no session lives"));
    };
    let (gate, _) = crate::ipc::channel::pair()?;
    drop(std::mem::replace(&mut keeper.gate, gate));
    process::wait_for(keeper.yard.pid)?;
    ended(&mut client)?;
    drop(session);
    Ok(())
});

pub fn outcome(result: io::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Worked,
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn turned_away(keeper: &mut Keeper, limits: GateLimits, limit: Limit) -> io::Result<()> {
    keeper.gate.send(&ToGate::Open { limits }, &[])?;
    let mut client = TcpStream::connect(keeper.address)?;
    match keeper.hear()? {
        ToKeeper::TurnedAway { limit: by, .. } if by == limit => {}
        other => return Err(io::Error::other(format!("the gate said {other:?}"))),
    }
    keeper.gate.send(&ToGate::Open { limits: LIMITS }, &[])?;
    ended(&mut client)
}

fn expect_death(keeper: &Keeper, pid: i32) -> io::Result<()> {
    match keeper.hear()? {
        ToKeeper::Died { pid: died, how: Death::Signal(9) } if died == pid => Ok(()),
        other => Err(io::Error::other(format!("the gate said {other:?}"))),
    }
}

/// The connection is over: closed, or reset.
fn ended(client: &mut TcpStream) -> io::Result<()> {
    match client.read(&mut [0; 1]) {
        Ok(0) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Ok(_) => Err(io::Error::other("bytes came on a connection that should be over")),
        Err(error) => Err(error),
    }
}
