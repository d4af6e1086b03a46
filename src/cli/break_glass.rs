//! `sealdrop break-glass`: a drop is given out, sealed, for its escrow identity, after a request with a reason and the
//! signature of an approver. Who asked, who approved and who carried it out is in the audit log.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::failure::Failure;
use super::output::{self, Output};
use super::say::{Align, Say, Table};
use crate::ipc::admin::{BreakGlass as Asked, BreakGlassRow, ToCommand, ToKeeper};
use crate::names::ReceiptId;
use crate::seal::{ENVELOPE_LEN, HEAD_LEN, HEADER_LEN};

/// Give a drop out for its escrow identity, in two steps by two people
#[derive(clap::Args)]
pub struct BreakGlass {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    Request(Request),
    Approve(Approve),
    Open(Open),
    List(List),
}

/// Ask for a drop: prints what an approver has to sign
#[derive(clap::Args)]
struct Request {
    #[command(flatten)]
    daemon: Daemon,
    /// A drop's or receipt's id, or USER:PATH
    #[arg(value_name = "DROP")]
    what: String,
    /// Why: it is in what the approver signs, and in the audit log
    #[arg(long, alias = "why", value_name = "TEXT")]
    reason: String,
    /// Write what has to be signed to FILE instead
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Hand in an approver's signature, as `ssh-keygen -Y sign -n break-glass@sealdrop` made it
#[derive(clap::Args)]
struct Approve {
    #[command(flatten)]
    daemon: Daemon,
    /// The request's id
    #[arg(value_name = "REQUEST")]
    id: ReceiptId,
    /// The signature's file
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
}

/// Take out what was approved, once: a sealed file for `sealdrop open` with the escrow identity
#[derive(clap::Args)]
struct Open {
    #[command(flatten)]
    daemon: Daemon,
    /// The request's id
    #[arg(value_name = "REQUEST")]
    id: ReceiptId,
    /// Where the sealed file goes
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// List the requests that are pending
#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    daemon: Daemon,
}

impl BreakGlass {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        match self.step {
            Step::Request(request) => request.run(say),
            Step::Approve(approve) => approve.run(say),
            Step::Open(open) => open.run(say),
            Step::List(list) => list.run(say),
        }
    }
}

fn rows(daemon: &Daemon, asked: Asked) -> Result<Vec<BreakGlassRow>, Ending> {
    match daemon.connect()?.ask(&ToKeeper::BreakGlass(asked))? {
        ToCommand::BreakGlass { rows } => Ok(rows),
        answer => Err(unexpected(&answer)),
    }
}

fn as_json(row: &BreakGlassRow) -> serde_json::Value {
    json!({
        "request": row.request.to_string(), "drop": row.drop.to_string(), "until": row.until.rfc3339(),
        "approved": row.approved, "text": row.text,
    })
}

impl Request {
    fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let found = match keeper.ask(&ToKeeper::Find { what: self.what.clone(), below: false, after: None })? {
            ToCommand::Drops { rows, .. } => rows,
            answer => return Err(unexpected(&answer)),
        };
        let drop = found.first().map(|row| row.drop);
        let drop = drop.ok_or_else(|| Failure::new(format_args!("there is no drop `{}`", self.what)))?;
        let made = rows(&self.daemon, Asked::Request { drop, reason: self.reason })?;
        let row = made.first().ok_or_else(|| Failure::new("the daemon made no request"))?;
        if let Some(path) = &self.output {
            fs::write(path, &row.text).map_err(|e| output::cannot_write(path, &e))?;
        }
        if say.is_json() {
            say.json(&as_json(row));
        } else if let Some(path) = &self.output {
            say.line(format_args!("request {}, until {}", row.request, row.until));
            say.line(format_args!(
                "an approver signs it: ssh-keygen -Y sign -n break-glass@sealdrop -f KEY {}",
                path.display()
            ));
            say.line(format_args!(
                "then: sealdrop break-glass approve {} --signature {}.sig",
                row.request,
                path.display()
            ));
        } else {
            say.raw(&row.text);
        }
        Ok(())
    }
}

impl Approve {
    fn run(self, say: &Say) -> Result<(), Ending> {
        let signature = fs::read_to_string(&self.signature).map_err(|e| output::cannot_read(&self.signature, &e))?;
        let approved = rows(&self.daemon, Asked::Approve { request: self.id, signature })?;
        for row in &approved {
            if say.is_json() {
                say.json(&as_json(row));
            } else {
                say.line(format_args!("approved by {}", row.approved.as_deref().unwrap_or("nobody")));
                say.line(format_args!("until {}: sealdrop break-glass open {} -o FILE", row.until, row.request));
            }
        }
        Ok(())
    }
}

impl Open {
    fn run(self, say: &Say) -> Result<(), Ending> {
        // Before the request is used up.
        let mut out = Output::create(&self.output, 0o600, false)?;
        let question = ToKeeper::BreakGlass(Asked::Open { request: self.id });
        let (answer, file) = self.daemon.connect()?.ask_for_file(&question)?;
        let ToCommand::SealedFile { envelope } = answer else { return Err(unexpected(&answer)) };
        let file = file.ok_or_else(|| Failure::new("the daemon gave no file"))?;
        if envelope.len() != ENVELOPE_LEN {
            return Err(Failure::new("the daemon gave no envelope").into());
        }
        copy(File::from(file), &envelope, &mut out, say).map_err(|e| output::cannot_write(&self.output, &e))?;
        out.commit()?;
        if say.is_json() {
            say.json(&json!({ "request": self.id.to_string(), "output": self.output }));
        } else {
            say.line(format_args!("wrote {}", self.output.display()));
            say.line("it opens with the escrow identity: sealdrop open -i IDENTITY -o OUT FILE");
        }
        Ok(())
    }
}

/// The sealed file as it is on disk, with its inner envelope.
fn copy(mut file: File, envelope: &[u8], out: &mut Output, say: &Say) -> std::io::Result<()> {
    let bar = output::progress(Some(file.metadata()?.len()), say.is_json());
    let mut head = [0; HEAD_LEN];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0)?;
    out.write_all(&head)?;
    out.write_all(envelope)?;
    file.seek(SeekFrom::Start(HEADER_LEN as u64))?;
    bar.inc(HEADER_LEN as u64);
    std::io::copy(&mut bar.wrap_read(file), out).map(drop)
}

impl List {
    fn run(self, say: &Say) -> Result<(), Ending> {
        let pending = rows(&self.daemon, Asked::List)?;
        if say.is_json() {
            pending.iter().for_each(|row| say.json(&as_json(row)));
            return Ok(());
        }
        if pending.is_empty() {
            say.line("no requests");
            return Ok(());
        }
        let heads =
            [("REQUEST", Align::Left), ("DROP", Align::Left), ("UNTIL", Align::Left), ("APPROVED", Align::Left)];
        let mut table = Table::new(&heads);
        for row in &pending {
            let approved = row.approved.clone().unwrap_or_else(|| "no".to_owned());
            table.row([row.request.to_string(), row.drop.to_string(), row.until.to_string(), approved]);
        }
        say.table(&table);
        Ok(())
    }
}
