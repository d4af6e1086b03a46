//! `audit verify`: the log of a running daemon, or an export, held against everything that was signed. What somebody
//! could only do who has the server's key, or puts an older copy back, shows against a checkpoint kept elsewhere.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::clock;
use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::ledger::checkpoint::{Claim, origin};
use crate::ledger::note::{NOTE_MAX, Note};
use crate::ledger::receipt::CHECKPOINT_NAMESPACE;
use crate::ledger::signers::AllowedSigners;
use crate::ledger::verify::{Outside, Problem, Report, Trust, verify};

use super::super::Ending;
use super::super::admin::{Daemon, unexpected};
use super::super::failure::Failure;
use super::super::say::{Say, Tone, count};
use super::head::with_sig;
use super::source::{CHECKPOINT, Export, Online, SIGNERS};

/// Check every event, receipt and checkpoint of the log, and say which is wrong
#[derive(clap::Args)]
pub struct Verify {
    #[command(flatten)]
    daemon: Daemon,
    /// Check an export instead of the running daemon
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere (`audit checkpoint -o FILE`); may be given again
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Whose signatures count: an OpenSSH `allowed_signers` file [default: the daemon's or the export's own]
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
}

impl Verify {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        match &self.export {
            Some(dir) => self.offline(say, dir),
            None => self.online(say),
        }
    }

    fn online(&self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let (row, signers) = match keeper.ask(&ToKeeper::Checkpoint)? {
            ToCommand::Checkpoint { row, signers, .. } => (row, signers),
            answer => return Err(unexpected(&answer)),
        };
        let trust = self.trust(&row.body, &signers)?;
        let mut outside = self.outside(&trust)?;
        // What the daemon signs now is one more word of its own.
        let claim = Claim::parse(&row.body).ok_or_else(|| Failure::new("the daemon's checkpoint cannot be read"))?;
        outside.push(Outside { name: "the daemon's newest checkpoint".to_owned(), head: claim.head });
        let mut online = Online { keeper: &mut keeper, size: row.size };
        let report = verify(&mut online, &trust, &outside, |_| ())?;
        self.tell(say, &trust, &report)
    }

    fn offline(&self, say: &Say, dir: &Path) -> Result<(), Ending> {
        let path = dir.join(CHECKPOINT);
        let note = read_note(&path)
            .map_err(|failure| failure.hint("its checkpoint is written last: without it an export is not whole"))?;
        let signers = dir.join(SIGNERS);
        let own = match &self.signers {
            Some(_) => String::new(),
            None => std::fs::read_to_string(&signers)
                .map_err(|e| Failure::new(format_args!("cannot read {}: {e}", signers.display())))?,
        };
        if self.signers.is_none() {
            say.warn("the key that counts is the one in the export itself; say --signers FILE with one you have kept");
        }
        let trust = self.trust(&note.text, &own)?;
        let mut outside = self.outside(&trust)?;
        outside.push(self.one_outside(&trust, &path)?);
        let size = outside.last().map_or(0, |newest| newest.head.size);
        let mut export = Export::open(dir, size)?;
        let report = verify(&mut export, &trust, &outside, |_| ())?;
        self.tell(say, &trust, &report)
    }

    /// Whose word counts for the log that this checkpoint is of.
    fn trust(&self, body: &str, own: &str) -> Result<Trust, Failure> {
        let server = body.lines().next().and_then(|origin| origin.strip_suffix("/audit"));
        let server = server.ok_or_else(|| Failure::new("the checkpoint does not name the log of a server"))?.to_owned();
        let text = match &self.signers {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| Failure::new(format_args!("cannot read {}: {e}", path.display())))?,
            None => own.to_owned(),
        };
        let name = self.signers.as_ref().map_or_else(|| SIGNERS.to_owned(), |path| path.display().to_string());
        let signers = AllowedSigners::parse(&text).map_err(|e| Failure::new(format_args!("{name}: {e}")))?;
        Ok(Trust { server, signers, now: clock::now() })
    }

    fn outside(&self, trust: &Trust) -> Result<Vec<Outside>, Failure> {
        self.checkpoint.iter().map(|path| self.one_outside(trust, path)).collect()
    }

    /// A checkpoint out of a file, once its signature holds: the note's, or the one of SSH beside it.
    fn one_outside(&self, trust: &Trust, path: &Path) -> Result<Outside, Failure> {
        let note = read_note(path)?;
        let name = path.display().to_string();
        let claim = Claim::of_note(&note)
            .filter(|claim| claim.origin == origin(&trust.server))
            .ok_or_else(|| Failure::new(format_args!("{name} is not a checkpoint of {}", origin(&trust.server))))?;
        let beside = || {
            let signature = std::fs::read_to_string(with_sig(path)).unwrap_or_default();
            trust.signed(CHECKPOINT_NAMESPACE, note.text.as_bytes(), &signature)
        };
        if trust.signed_note(&note) || beside() {
            Ok(Outside { name, head: claim.head })
        } else {
            Err(Failure::new(format_args!("{name} is not signed by a key that counts for {}", trust.server))
                .hint("was the server's key changed? Its former line can stay in the file given with --signers"))
        }
    }

    fn tell(&self, say: &Say, trust: &Trust, report: &Report) -> Result<(), Ending> {
        if say.is_json() {
            let as_json = |problem: &Problem| json!({ "problem": problem.word(), "event": problem.event(), "say": problem.to_string() });
            let problems: Vec<_> = report.problems.iter().map(as_json).collect();
            say.json(&json!({
                "verified": report.holds(), "server": trust.server, "events": report.events, "pruned": report.pruned, "receipts": report.receipts,
                "papers": report.papers, "checkpoints": report.checkpoints, "signed": report.signed, "outside": self.checkpoint.len(),
                "root": report.root.map(|root| root.to_string()), "problems": problems, "more": report.more,
            }));
        } else {
            for problem in &report.problems {
                say.line(say.tone(Tone::Bad, problem));
            }
            if report.more > 0 {
                say.line(format_args!("and {} more", report.more));
            }
            let what = format!(
                "{}, {}, {} and {} of {}",
                count(report.events, "event"),
                count(report.receipts, "receipt"),
                count(report.papers, "paper"),
                count(report.checkpoints, "checkpoint"),
                trust.server
            );
            match report.holds() {
                true => say.line(format_args!("Good: {what} are what was signed")),
                false => say.line(format_args!("Not good: {what}")),
            }
            if report.holds() && self.checkpoint.is_empty() {
                say.aside("held against no checkpoint kept elsewhere: an older copy of the whole would look the same");
            }
        }
        if report.holds() { Ok(()) } else { Err(Ending::failed()) }
    }
}

fn read_note(path: &Path) -> Result<Note, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format_args!("{}: {why}", path.display()));
    let len = std::fs::metadata(path).map_err(|e| failed(&e))?.len();
    if len > NOTE_MAX as u64 {
        return Err(failed(&"too long to be a checkpoint"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    Note::parse(&text).map_err(|e| failed(&e))
}
