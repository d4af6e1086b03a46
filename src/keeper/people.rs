//! Who is on, and showing somebody the door. A kick ends sessions and bars nobody: who may log in can come again.

use std::sync::Arc;

use super::sessions::Entry;
use super::who::Who;
use super::{Keeper, reload};
use crate::clock;
use crate::ipc::admin::{SessionRow, ToCommand};
use crate::ledger::{Batch, Event, Kind};
use crate::names::{SessionId, UserName};
use crate::policy::Certified;

/// Sessions in one answer: each row is under 2 KiB, and a message takes 64.
const PAGE: usize = 30;

/// Of what a session asked last.
const WORDS_MAX: usize = 200;

/// Of a reason, which is in the ledger for years.
const REASON_MAX: usize = 200;

pub fn sessions(keeper: &Keeper, after: Option<SessionId>) -> ToCommand {
    let all = keeper.sessions.all();
    let mut rest = all.iter().filter(|entry| after.is_none_or(|after| entry.client.session > after));
    let rows: Vec<SessionRow> = rest.by_ref().take(PAGE).map(row).collect();
    let next = rest.next().and(rows.last()).map(|row| row.session);
    ToCommand::Sessions { rows, next }
}

fn row(entry: &Entry) -> SessionRow {
    let client = &entry.client;
    let (sent, received) = client.activity.totals();
    let (sending, receiving) = client.activity.rates();
    SessionRow {
        session: client.session,
        user: client.user.clone(),
        address: client.address.to_canonical(),
        key: client.key.clone(),
        certificate: client.holding.as_ref().and_then(|holding| holding.certified.as_ref()).map(Certified::words),
        since: client.since,
        sent,
        received,
        sending,
        receiving,
        uploads: client.activity.uploads(),
        last: client.activity.last().map(|(words, at)| (words.chars().take(WORDS_MAX).collect(), at)),
    }
}

/// Ends one session, or all of a user: first it is in the ledger who said so, then each that ended.
pub async fn kick(
    keeper: &Arc<Keeper>,
    user: Option<&UserName>,
    session: Option<SessionId>,
    reason: &str,
    who: &Who,
) -> Result<ToCommand, String> {
    let reason: String = crate::names::escaped(reason.as_bytes()).chars().take(REASON_MAX).collect();
    let meant = |entry: &Entry| {
        (user.is_some() || session.is_some())
            && user.is_none_or(|user| entry.client.user == *user)
            && session.is_none_or(|session| entry.client.session == session)
    };
    let whom = match (user, session) {
        (Some(user), None) => format!("user {user}"),
        (None, Some(session)) => format!("session {session}"),
        (user, session) => format!("{user:?} {session:?}"),
    };
    let mut event = Event::new(clock::now(), Kind::AdminCommand);
    event.detail = Some(format!("kick {whom}, by {who}: {reason}"));
    event.policy = Some(keeper.policy().digest);
    let batch = Batch { events: vec![event], urgent: true, ..Batch::default() };
    keeper.record(batch).await.map_err(|refusal| refusal.why)?;
    let mut ended = Vec::new();
    for entry in keeper.sessions.all().iter().filter(|entry| meant(entry)) {
        reload::end(keeper, entry, format!("by {who}: {reason}")).await;
        ended.push(entry.client.session);
    }
    tracing::info!(whom, %who, reason, ended = ended.len(), "kicked");
    Ok(ToCommand::Kicked { sessions: ended })
}
