//! `sealdrop alarms`: what is wrong now or soon will be, and what the hook has still to be told. Looks at once, clears what
//! somebody has seen, tries the hook.

use serde_json::{Value, json};

use crate::clock::Time;
use crate::ipc::admin::{HookState, NoticeRow, ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, Keeper, done, unexpected};
use super::say::{Say, Tone, count};
use super::sweep::parse_now;

/// List what is wrong, or soon will be
///
/// The daemon looks each minute. What it finds is in its log, in the audit log, here, and told to the hook that
/// `[alarms]` in sealdrop.toml names.
#[derive(clap::Args)]
#[command(after_help = "Ends with 0 if nothing is wrong, with 4 if there are alarms.")]
pub struct Alarms {
    #[command(flatten)]
    daemon: Daemon,
    /// Look now, and do not wait for the minute
    #[arg(long, conflicts_with_all = ["test", "clear"])]
    look: bool,
    /// Look as if it were this time: RFC 3339, or `+6h` from now (only where `test_clock = true`)
    #[arg(long, value_name = "TIME", value_parser = parse_now, requires = "look")]
    now: Option<Time>,
    /// Tell the hook something, and say how that went
    #[arg(long, conflicts_with = "clear")]
    test: bool,
    /// Clear an alarm that stays until somebody has seen it
    #[arg(long, value_name = "CAUSE", requires = "reason")]
    clear: Option<String>,
    /// What was found and done; it goes into the audit log
    #[arg(long, value_name = "TEXT", requires = "clear")]
    reason: Option<String>,
}

impl Alarms {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        if self.test {
            return done(say, keeper.ask(&ToKeeper::TestHook)?);
        }
        if let Some(cause) = self.clear {
            let reason = self.reason.unwrap_or_default();
            return done(say, keeper.ask(&ToKeeper::ClearAlarm { cause, reason })?);
        }
        if self.look {
            match keeper.ask(&ToKeeper::LookForAlarms { now: self.now })? {
                ToCommand::Done { .. } => {}
                answer => return Err(unexpected(&answer)),
            }
        }
        let alarms = open(&mut keeper)?;
        let (notices, hook) = waiting(&mut keeper)?;
        if say.is_json() {
            let notices: Vec<Value> = notices.iter().map(as_json).collect();
            say.json(&json!({ "alarms": alarms, "waiting": notices, "hook": word(hook) }));
        } else {
            tell(say, &alarms, &notices, hook);
        }
        if alarms.is_empty() { Ok(()) } else { Err(Ending::attention()) }
    }
}

/// All that are open, as the hook reads them.
pub(super) fn open(keeper: &mut Keeper) -> Result<Vec<Value>, Ending> {
    let mut all = Vec::new();
    keeper.pages(
        |after| ToKeeper::Alarms { after },
        |answer| match answer {
            ToCommand::Alarms { rows, next } => {
                all.extend(rows.iter().filter_map(|row| serde_json::from_str::<Value>(row).ok()));
                Ok(next)
            }
            answer => Err(unexpected(&answer)),
        },
    )?;
    Ok(all)
}

/// What waits for the hook, and how that is.
pub(super) fn waiting(keeper: &mut Keeper) -> Result<(Vec<NoticeRow>, HookState), Ending> {
    let (mut all, mut state) = (Vec::new(), HookState::None);
    keeper.pages(
        |after| ToKeeper::Notices { after },
        |answer| match answer {
            ToCommand::Notices { rows, next, hook } => {
                all.extend(rows);
                state = hook;
                Ok(next)
            }
            answer => Err(unexpected(&answer)),
        },
    )?;
    Ok((all, state))
}

fn tell(say: &Say, alarms: &[Value], notices: &[NoticeRow], hook: HookState) {
    for alarm in alarms {
        let word = |key: &str| alarm[key].as_str().unwrap_or_default();
        say.line(format_args!("{}  {}", say.tone(Tone::Bad, word("cause")), say.tone(Tone::Quiet, word("since"))));
        say.line(format_args!("    {}", word("say")));
        say.line(format_args!("    {} {}", say.tone(Tone::Tip, "hint:"), word("hint")));
    }
    if alarms.is_empty() {
        say.line("no alarm is open");
    }
    match hook {
        HookState::None => say.line("there is no hook: alarms are in the log and here"),
        HookState::Ready if notices.is_empty() => say.line("the hook has been told of everything"),
        HookState::Ready => say.line(format_args!("{} for the hook:", waits(notices))),
        HookState::Gone => {
            say.line(format_args!("{} for the hook, whose process is gone: restart the daemon", waits(notices)));
        }
    }
    for notice in notices {
        let last = notice.last.as_ref().map(|last| format!("; {last}")).unwrap_or_default();
        let tries = count(u64::from(notice.tries), "try").replace("trys", "tries");
        say.line(format_args!("    {}  {}, {tries}, next {}{last}", notice.id, notice.what, notice.next));
    }
}

fn waits(notices: &[NoticeRow]) -> String {
    let n = notices.len() as u64;
    format!("{} {}", count(n, "notice"), if n == 1 { "waits" } else { "wait" })
}

fn word(hook: HookState) -> &'static str {
    match hook {
        HookState::None => "none",
        HookState::Ready => "ready",
        HookState::Gone => "gone",
    }
}

fn as_json(row: &NoticeRow) -> Value {
    json!({
        "id": row.id, "at": row.at.rfc3339(), "what": row.what, "tries": row.tries,
        "next": row.next.rfc3339(), "last": row.last,
    })
}
