//! `sealdrop evidence`: a folder with everything about one receipt, for somebody who has neither this program nor a reason to
//! trust it. The folder checks itself: `verify.sh` in it needs a POSIX shell, `ssh-keygen` and `sha256sum`. What is in
//! the folder is docs/ledger.md, "Evidence".

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::ledger::Receipt;
use crate::ledger::checkpoint::{Claim, base64};
use crate::ledger::proof::InclusionProof;
use crate::names::{ReceiptId, hex};

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::output::cannot_write;
use super::say::{Say, count};

/// Checks the folder. What it says is what a court reads; keep it plain.
const VERIFY: &str = include_str!("evidence/verify.sh");

const README: &str = include_str!("evidence/README.txt");

/// Write everything about a receipt into a folder that anybody can check
#[derive(clap::Args)]
pub struct Evidence {
    #[command(flatten)]
    daemon: Daemon,
    /// The receipt
    #[arg(value_name = "RECEIPT")]
    id: ReceiptId,
    /// The folder to make [default: evidence-RECEIPT]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Evidence {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let dir = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("evidence-{}", self.id)));
        let ToCommand::Evidence { drop, log_size, files } = ask(&mut keeper, &ToKeeper::Evidence { id: self.id })?
        else {
            return Err(unexpected_order());
        };
        // Never into a folder that is there: what is in it would be part of the evidence.
        fs::create_dir(&dir).map_err(|e| cannot_write(&dir, &e).hint("name a folder that is not there with --out"))?;
        let mut folder = Folder { dir, sums: String::new() };
        let (mut receipt, mut checkpoint) = (String::new(), String::new());
        for name in files {
            let question = ToKeeper::EvidenceFile { id: self.id, log_size, name: name.clone() };
            let ToCommand::EvidenceFile { text } = ask(&mut keeper, &question)? else { return Err(unexpected_order()) };
            folder.write(&name, &text)?;
            match name.as_str() {
                "receipt" => receipt = text,
                "checkpoint" => checkpoint = text,
                _ => {}
            }
        }
        let events = self.events(&mut keeper, &mut folder, log_size)?;
        let parsed = Receipt::parse(&receipt).map_err(|e| Failure::new(format!("the daemon's receipt: {e}")))?;
        folder.write("README.txt", &readme(&parsed, &checkpoint, events))?;
        folder.write("verify.sh", VERIFY)?;
        let sums = std::mem::take(&mut folder.sums);
        folder.write("SHA256SUMS", &sums)?;
        say.line(format_args!(
            "wrote {}: {} about receipt {}\ncheck it with: sh {}/verify.sh [FILE]",
            folder.dir.display(),
            count(events, "event"),
            self.id,
            folder.dir.display()
        ));
        if say.is_json() {
            say.json(&json!({
                "dir": folder.dir, "receipt": self.id.to_string(), "drop": drop.to_string(),
                "events": events, "log_size": log_size,
            }));
        }
        Ok(())
    }

    /// Writes the events and their proofs, and says how many there are.
    fn events(&self, keeper: &mut Keeper, folder: &mut Folder, log_size: u64) -> Result<u64, Ending> {
        let (mut from, mut written) = (None, 0);
        loop {
            let question = ToKeeper::EvidenceEvents { id: self.id, from, log_size };
            let ToCommand::EvidenceEvents { rows, next } = ask(keeper, &question)? else {
                return Err(unexpected_order());
            };
            for (number, event) in rows {
                let ToCommand::Proof { text } = ask(keeper, &ToKeeper::Proof { event: number, log_size })? else {
                    return Err(unexpected_order());
                };
                folder.write(&format!("event-{number}.json"), &event)?;
                folder.write(&format!("event-{number}.proof"), &without_event(&text))?;
                written += 1;
            }
            match next {
                Some(next) => from = Some(next),
                None => return Ok(written),
            }
        }
    }
}

/// The event is a file of its own, which people read and the shell can hash.
fn without_event(text: &str) -> String {
    let proof = InclusionProof::parse(text);
    proof.map_or_else(|_| text.to_owned(), |proof| InclusionProof { json: None, ..proof }.text())
}

struct Folder {
    dir: PathBuf,
    /// As sha256sum writes them.
    sums: String,
}

impl Folder {
    fn write(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        // The names are the keeper's; one that leads elsewhere would be another's.
        if name.contains('/') || name.starts_with('.') || name.is_empty() {
            return Err(Failure::new(format!("the daemon names a file `{name}`, which is none of a folder's")));
        }
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|e| cannot_write(&path, &e))?;
        self.sums.push_str(&format!("{}  {name}\n", hex(&Sha256::digest(text))));
        Ok(())
    }
}

fn ask(keeper: &mut Keeper, question: &ToKeeper) -> Result<ToCommand, Ending> {
    let answer = keeper.ask(question)?;
    match answer {
        ToCommand::Evidence { .. }
        | ToCommand::EvidenceFile { .. }
        | ToCommand::EvidenceEvents { .. }
        | ToCommand::Proof { .. } => Ok(answer),
        other => Err(unexpected(&other)),
    }
}

fn unexpected_order() -> Ending {
    Failure::new("the daemon answered with evidence, and not with the part that was asked for").into()
}

fn readme(receipt: &Receipt, checkpoint: &str, events: u64) -> String {
    let facts = &receipt.facts;
    let to: Vec<&str> = facts.recipients.iter().map(|recipient| recipient.user.as_str()).collect();
    let head = Claim::parse(checkpoint).map(|claim| claim.head);
    README
        .replace("{server}", &receipt.server)
        .replace("{receipt}", &facts.id.to_string())
        .replace("{sender}", facts.sender.as_str())
        .replace("{path}", &facts.path.to_string())
        .replace("{size}", &facts.size.to_string())
        .replace("{sha256}", &facts.sha256.to_string())
        .replace("{to}", &if to.is_empty() { "nobody else".to_owned() } else { to.join(", ") })
        .replace("{received}", &facts.received.to_string())
        .replace("{events}", &events.to_string())
        .replace("{log}", &head.as_ref().map_or(0, |head| head.size).to_string())
        .replace("{root}", &head.map_or_else(String::new, |head| base64(&head.root.0)))
}
