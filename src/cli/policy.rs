//! `sealdrop policy`: which policy was in force when, and what it said, as the ledger keeps it.

use serde_json::json;

use crate::clock::{self, Time};
use crate::ipc::admin::{InForceRow, ToCommand, ToKeeper};
use crate::names::Digest;
use crate::policy::PolicyText;

use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::say::{Align, Say, Table, Tone};
use super::{Ending, sweep};

/// Show which policy was in force when, and what it said
///
/// Receipts and audit events name the policy they were made under by its digest. The ledger keeps the files behind it, with
/// the SHA-256 of each password hash and one-time secret in its place.
#[derive(clap::Args)]
pub struct PolicyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// List the policies that were in force, the last one last
    List {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Print the files of a policy
    Show {
        #[command(flatten)]
        daemon: Daemon,
        /// Which: its digest, as receipts and events have it [default: the one in force]
        #[arg(value_name = "DIGEST", conflicts_with = "at")]
        digest: Option<Digest>,
        /// The one that was in force then: RFC 3339
        #[arg(long, value_name = "TIME", value_parser = sweep::parse_now)]
        at: Option<Time>,
    },
}

impl PolicyCommand {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        match self.what {
            What::List { daemon } => list(say, &mut daemon.connect()?),
            What::Show { daemon, digest, at } => show(say, &mut daemon.connect()?, digest, at),
        }
    }
}

fn list(say: &Say, keeper: &mut Keeper) -> Result<(), Ending> {
    let mut table =
        Table::new(&[("SINCE", Align::Left), ("UNTIL", Align::Left), ("FILES", Align::Right), ("POLICY", Align::Left)]);
    let mut after = None;
    loop {
        let (rows, next) = match keeper.ask(&ToKeeper::PoliciesInForce { after })? {
            ToCommand::PoliciesInForce { rows, next } => (rows, next),
            answer => return Err(unexpected(&answer)),
        };
        for row in rows {
            if say.is_json() {
                say.json(&json!({
                    "policy": row.digest.to_string(), "since": row.since.rfc3339(),
                    "until": row.until.map(Time::rfc3339), "files": row.files,
                }));
            } else {
                table.row([
                    row.since.to_string(),
                    row.until.map_or_else(|| "now".to_owned(), |until| until.to_string()),
                    row.files.map_or_else(|| "not kept".to_owned(), |files| files.to_string()),
                    row.digest.to_string(),
                ]);
            }
        }
        after = next;
        if after.is_none() {
            say.table(&table);
            return Ok(());
        }
    }
}

fn show(say: &Say, keeper: &mut Keeper, digest: Option<Digest>, at: Option<Time>) -> Result<(), Ending> {
    let in_force = match digest {
        Some(_) => None,
        None => Some(in_force_at(keeper, at.unwrap_or_else(clock::now))?),
    };
    let Some(digest) = digest.or(in_force.as_ref().map(|row| row.digest)) else { return Ok(()) };
    let texts = kept(keeper, &digest)?;
    if say.is_json() {
        let files = texts.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect::<Vec<_>>();
        say.json(&json!({
            "policy": digest.to_string(),
            "since": in_force.as_ref().map(|row| row.since.rfc3339()),
            "until": in_force.as_ref().and_then(|row| row.until).map(Time::rfc3339),
            "files": files,
        }));
        return Ok(());
    }
    let when = in_force.map_or_else(String::new, |row| format!(", {}", told(&row)));
    say.line(say.tone(Tone::Strong, format_args!("# policy {digest}{when}")));
    for (name, text) in &texts {
        say.line(format_args!("\n{}", say.tone(Tone::Strong, format_args!("# {name}"))));
        say.line(text.trim_end());
    }
    Ok(())
}

/// `in force from … to …`.
pub(super) fn told(row: &InForceRow) -> String {
    match row.until {
        Some(until) => format!("in force from {} to {until}", row.since),
        None => format!("in force since {}", row.since),
    }
}

/// Which policy the daemon had then.
pub(super) fn in_force_at(keeper: &mut Keeper, at: Time) -> Result<InForceRow, Ending> {
    match keeper.ask(&ToKeeper::PolicyInForceAt { at })? {
        ToCommand::PoliciesInForce { mut rows, .. } => rows.pop().ok_or_else(|| {
            Failure::new(format_args!("the ledger knows of no policy that was in force at {at}"))
                .hint("`sealdrop policy list` says since when it does")
                .into()
        }),
        answer => Err(unexpected(&answer)),
    }
}

/// Names and texts of a policy's files, as the ledger keeps them.
pub(super) fn kept(keeper: &mut Keeper, digest: &Digest) -> Result<Vec<(String, String)>, Ending> {
    let (_, texts) = texts(keeper, |after| ToKeeper::PolicyKept { digest: *digest, after })?;
    // What is kept was text when it was.
    let text = |text: PolicyText| (text.name, String::from_utf8_lossy(&text.bytes).into_owned());
    Ok(texts.into_iter().map(text).collect())
}

/// The files of a policy, put together from their pages, and the digests that the pages named: more than one if a reload
/// came in between.
pub(super) fn texts(
    keeper: &mut Keeper,
    question: impl Fn(Option<String>) -> ToKeeper,
) -> Result<(Vec<Digest>, Vec<PolicyText>), Ending> {
    let (mut digests, mut texts): (Vec<Digest>, Vec<PolicyText>) = (Vec::new(), Vec::new());
    keeper.pages(question, |answer| match answer {
        ToCommand::Policy { digest, parts, next } => {
            digests.push(digest);
            for part in parts {
                match texts.last_mut().filter(|last| last.name == part.name) {
                    Some(last) => last.bytes.extend(part.bytes),
                    None => texts.push(PolicyText { name: part.name, bytes: part.bytes }),
                }
            }
            Ok(next)
        }
        answer => Err(unexpected(&answer)),
    })?;
    digests.dedup();
    Ok((digests, texts))
}
