//! `audit cosign`: has a witness sign the newest checkpoint, and gives its signature to the daemon to keep. Run by a timer.
//! The daemon never waits for the network and never reads it: this command does, and what it brings is one line that
//! the daemon checks (docs/decisions/0009).

use serde_json::json;

use crate::clock;
use crate::ipc::admin::{CheckpointRow, ToCommand, ToKeeper};
use crate::ledger::note::{NoteKey, NoteKind, NoteSignature, Signed};
use crate::witness::http;

use super::super::Ending;
use super::super::admin::{Daemon, Keeper, unexpected};
use super::super::failure::Failure;
use super::super::say::Say;
use super::head::{consistency_of, last_kept};

/// Have a witness sign the newest checkpoint (run it from a timer)
#[derive(clap::Args)]
pub struct Cosign {
    #[command(flatten)]
    daemon: Daemon,
    /// Where the witness is: `http://HOST`, with `:PORT` and a path if it has them
    #[arg(value_name = "URL")]
    url: String,
    /// Its public key, as it was printed when it started
    #[arg(long, value_name = "KEY")]
    key: NoteKey,
}

/// How far a witness's clock may be from this machine's.
const CLOCK_SLACK_MS: u64 = 10 * 60 * 1000;

impl Cosign {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        if self.key.kind != NoteKind::Witness {
            return Err(Failure::new(format_args!("{} is not the key of a witness", self.key)).into());
        }
        let mut keeper = self.daemon.connect()?;
        let row = last_kept(&mut keeper)?;
        // A witness says by itself where it is; only the first time there is nothing to say.
        let (status, answer) = match self.ask(&mut keeper, 0, &row)? {
            (409, size) => {
                let old = size.trim().parse().map_err(|_| self.unexpected(409, &size))?;
                if old > row.size {
                    return Err(Failure::new(format_args!(
                        "the witness has signed a log of {old} events, and this one has {}: it was put back to an older copy",
                        row.size
                    ))
                    .hint("keep the state directory as evidence; docs/operations.md, \"When the log does not hold\"")
                    .into());
                }
                self.ask(&mut keeper, old, &row)?
            }
            answer => answer,
        };
        match status {
            200 => {}
            409 | 422 => {
                return Err(Failure::new("the witness has signed another log than this one: the history was changed")
                    .hint("keep the state directory as evidence; docs/operations.md, \"When the log does not hold\"")
                    .into());
            }
            403 => return Err(Failure::new("the witness knows another key for this log").into()),
            404 => {
                return Err(Failure::new("the witness does not sign for this log")
                    .hint("`sealdrop audit checkpoint --key` prints what its --log takes")
                    .into());
            }
            _ => return Err(self.unexpected(status, &answer).into()),
        }
        let line = answer.lines().find(|line| {
            let signed = NoteSignature::parse(line).and_then(|signature| self.key.verify(&row.body, &signature));
            matches!(signed, Some(Signed::Witness { at }) if at.0.abs_diff(clock::now().0) < CLOCK_SLACK_MS)
        });
        let line = line.ok_or_else(|| {
            Failure::new("what the witness answered is not its signature").hint("is --key the one that it printed?")
        })?;
        let (line, key) = (line.to_owned(), self.key.to_string());
        match keeper.ask(&ToKeeper::Cosigned { size: row.size, line, key })? {
            ToCommand::Done { say: done } if say.is_json() => {
                say.json(&json!({ "size": row.size, "witness": self.key.name, "done": done }));
            }
            ToCommand::Done { say: done } => say.line(format_args!("{} events: {done}", row.size)),
            answer => return Err(unexpected(&answer)),
        }
        Ok(())
    }

    fn ask(&self, keeper: &mut Keeper, old: u64, row: &CheckpointRow) -> Result<(u16, String), Ending> {
        let proof = consistency_of(keeper, old, row.clone())?;
        let asked = http::post(&self.url, "/add-checkpoint", proof.text().as_bytes());
        Ok(asked.map_err(|e| {
            Failure::new(format_args!("the witness at {} does not answer: {e}", self.url))
                .hint("nothing is lost: the next one that it signs covers everything before")
        })?)
    }

    fn unexpected(&self, status: u16, answer: &str) -> Failure {
        let first: String = answer.lines().next().unwrap_or_default().chars().take(100).collect();
        Failure::new(format_args!("the witness at {} answered {status}: {first}", self.url))
    }
}
