//! Names that the log hides, for the auditor: with the identity that they are sealed to, each is shown where its hash stands.
//! What has expired stays a hash. docs/ledger.md, "Hidden names".

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use crate::ipc::admin::{NamesKeyRow, NamesRow, ToCommand, ToKeeper};
use crate::ledger::{HiddenNames, NamesText};
use crate::names::DropId;
use crate::seal::{Envelope, FileKey, Head};

use super::super::Ending;
use super::super::admin::{Keeper, unexpected};
use super::super::failure::Failure;
use super::super::open;

/// How a hidden name begins, and how many digits follow.
const MARK: &str = "sha256:";
const DIGITS: usize = 64;

#[derive(clap::Args)]
pub struct Auditor {
    /// Show hidden names, with the auditor's identity file
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

/// Opens names.
pub struct Opener {
    keys: Vec<open::keys::Key>,
    /// `None`: expired.
    days: HashMap<DropId, Option<FileKey>>,
}

impl Auditor {
    /// `None` if no identity was given.
    pub fn opener(&self) -> Result<Option<Opener>, Failure> {
        let mut keys = Vec::new();
        for path in &self.identities {
            keys.append(&mut open::keys::read(path)?);
        }
        Ok((!keys.is_empty()).then(|| Opener { keys, days: HashMap::new() }))
    }
}

impl Opener {
    /// What is hidden of the events from `from` up to, not including, `until`, as far as it can be read.
    pub fn open(&mut self, keeper: &mut Keeper, from: u64, until: u64) -> Result<BTreeMap<u64, NamesText>, Ending> {
        let (mut found, mut next) = (BTreeMap::new(), from);
        while next < until {
            let rows = match keeper.ask(&ToKeeper::Names { from: next })? {
                ToCommand::Names { rows } => rows,
                answer => return Err(unexpected(&answer)),
            };
            let Some(last) = rows.last().map(|row| row.event) else { break };
            for row in rows.into_iter().filter(|row| row.event < until) {
                let event = row.event;
                if let Some(text) = self.row(keeper, row)? {
                    found.insert(event, text);
                }
            }
            next = last.saturating_add(1);
        }
        Ok(found)
    }

    fn row(&mut self, keeper: &mut Keeper, row: NamesRow) -> Result<Option<NamesText>, Ending> {
        if !self.days.contains_key(&row.key) {
            let key = match keeper.ask(&ToKeeper::NamesKey { id: row.key })? {
                ToCommand::NamesKey { found } => found.map(|found| self.day(&found)).transpose()?,
                answer => return Err(unexpected(&answer)),
            };
            self.days.insert(row.key, key);
        }
        let Some(Some(key)) = self.days.get(&row.key) else { return Ok(None) };
        let names = HiddenNames { event: row.event, key: row.key, sealed: row.sealed };
        Ok(Some(names.open(key.expose()).ok_or_else(|| {
            Failure::new(format_args!("the names of event {} do not open: they were changed", names.event))
        })?))
    }

    fn day(&self, found: &NamesKeyRow) -> Result<FileKey, Failure> {
        let unreadable = |e| Failure::new(format_args!("the daemon's key of names: {e}"));
        let head = Head::parse(&found.head).map_err(unreadable)?;
        let envelope = Envelope::parse(&found.envelope).map_err(unreadable)?;
        open::keys::unwrap(&head, &envelope, &self.keys).map_err(|e| match e {
            open::keys::KeyError::Ask(failure) => failure,
            open::keys::KeyError::Seal(_) => Failure::new(
                "names in this part of the log are not sealed to this identity",
            )
            .hint("`auditor` in sealdrop.toml says to whom; if that was another before, give its identity as well"),
        })
    }
}

/// The event's JSON with each hidden name that is known in the place of its hash. It is not what was hashed any more.
pub fn reveal(json: &str, names: &NamesText) -> String {
    let (mut out, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(at) = rest.find(MARK) {
        let end = at + MARK.len() + DIGITS;
        let name = rest.get(at..end).and_then(|shown| names.find(shown));
        let Some(name) = name else {
            out.push_str(&rest[..at + MARK.len()]);
            rest = &rest[at + MARK.len()..];
            continue;
        };
        out.push_str(&rest[..at]);
        let quoted = serde_json::Value::from(name).to_string();
        out.push_str(quoted.trim_matches('"'));
        rest = &rest[end..];
    }
    out + rest
}
