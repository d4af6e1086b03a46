//! Who may ask the keeper what over the admin socket: one row for each act, one column for each role. The keeper looks up each
//! message here before it does anything else. That a message has an act is an exhaustive match, so that a new one cannot be
//! forgotten; docs/operations.md has the same table, and a test compares the two.

use super::admin::{BreakGlass, Ordered, ToKeeper};
use crate::names::Role;

/// Each act with what it is in words, the commands that need it, and who may.
macro_rules! acts {
    ($($act:ident = $words:literal, $commands:literal, [$($role:ident),*];)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Act { $($act,)* }

        impl Act {
            pub const ALL: &[Act] = &[$(Act::$act,)*];

            /// As it stands in refusals: "… is for an admin".
            pub fn words(self) -> &'static str {
                match self { $(Self::$act => $words,)* }
            }

            pub fn commands(self) -> &'static str {
                match self { $(Self::$act => $commands,)* }
            }

            /// The whole table.
            pub fn may(self) -> &'static [Role] {
                match self { $(Self::$act => &[$(Role::$role),*],)* }
            }
        }
    };
}

acts! {
    State = "seeing how the server is", "`status`, `rotate status`", [Admin, Auditor, Custodian];
    Sessions = "seeing who is on", "`sessions`, `top`", [Admin, Auditor];
    Alarms = "seeing what is wrong", "`alarms`", [Admin, Auditor, Custodian];
    Look = "looking for what is wrong, ending alarms, trying the hook", "`alarms --look`, `--clear`, `--test`", [Admin];
    Drops = "finding drops, receipts and certificates", "`drops`, `receipts`, `--plan` of an order", [Admin, Auditor, Custodian];
    Log = "reading the audit log", "`audit`, `audit verify`, `audit export`, `evidence`, `report`, `retain`", [Admin, Auditor];
    Proofs = "reading checkpoints and proofs", "`audit head`", [Admin, Auditor, Custodian];
    Cosign = "keeping a witness's signature", "`audit cosign`", [Admin, Auditor];
    Due = "seeing what is due", "`sweep --plan`", [Admin, Auditor, Custodian];
    Sweep = "a sweep", "`sweep`", [Admin];
    Policy = "reading the policy in force", "`plan`, `explain`", [Admin];
    Policies = "reading the policies there were, without their secrets", "`policy list`, `policy show`, `explain --at` the past", [Admin, Auditor];
    Reload = "a reload", "`reload`, `user … --reload`", [Admin];
    Kick = "ending sessions", "`kick`", [Admin];
    Backup = "a backup", "`backup`", [Admin];
    Hold = "holding drops", "`hold`", [Admin, Custodian];
    Release = "releasing drops", "`release`", [Custodian];
    Shred = "shredding drops", "`shred`", [Custodian];
    Rotate = "replacing keys", "`rotate`", [Custodian];
    BreakGlass = "asking for a drop by break-glass", "`break-glass request`, `break-glass open`", [Custodian];
    Approvals = "seeing what awaits approval", "`approvals`", [Admin, Auditor, Custodian];
    Approve = "approving what another asked for, or refusing it", "`approve`, `refuse`", [Admin, Custodian];
    Requests = "bringing an approver's signature", "`break-glass approve`, `break-glass list`", [Admin, Auditor, Custodian];
}

impl From<&ToKeeper> for Act {
    fn from(request: &ToKeeper) -> Self {
        match request {
            ToKeeper::Status | ToKeeper::RotationState => Self::State,
            ToKeeper::Sessions { .. } | ToKeeper::Overview => Self::Sessions,
            ToKeeper::Alarms { .. } | ToKeeper::Notices { .. } => Self::Alarms,
            ToKeeper::LookForAlarms { .. } | ToKeeper::ClearAlarm { .. } | ToKeeper::TestHook => Self::Look,
            ToKeeper::Drops { .. }
            | ToKeeper::Receipts { .. }
            | ToKeeper::Receipt { .. }
            | ToKeeper::Find { .. }
            | ToKeeper::DropStatus { .. }
            | ToKeeper::Certificate { .. } => Self::Drops,
            ToKeeper::Audit { .. }
            | ToKeeper::Log { .. }
            | ToKeeper::LogReceipt { .. }
            | ToKeeper::LogPaper { .. }
            | ToKeeper::FirstEvent { .. }
            | ToKeeper::Evidence { .. }
            | ToKeeper::EvidenceFile { .. }
            | ToKeeper::EvidenceEvents { .. }
            | ToKeeper::Lives { .. }
            | ToKeeper::Names { .. }
            | ToKeeper::NamesKey { .. }
            | ToKeeper::Noted { .. } => Self::Log,
            ToKeeper::Checkpoint
            | ToKeeper::Beginning
            | ToKeeper::LastCheckpoint
            | ToKeeper::Checkpoints { .. }
            | ToKeeper::Proof { .. }
            | ToKeeper::Inclusion { .. }
            | ToKeeper::Consistency { .. } => Self::Proofs,
            ToKeeper::Cosigned { .. } => Self::Cosign,
            ToKeeper::Sweep { plan: true, .. } => Self::Due,
            ToKeeper::Sweep { plan: false, .. } => Self::Sweep,
            ToKeeper::Policy { .. } => Self::Policy,
            ToKeeper::PoliciesInForce { .. } | ToKeeper::PolicyInForceAt { .. } | ToKeeper::PolicyKept { .. } => {
                Self::Policies
            }
            ToKeeper::Reload { .. } => Self::Reload,
            ToKeeper::Kick { .. } => Self::Kick,
            ToKeeper::Backup { .. } => Self::Backup,
            ToKeeper::Order { what, .. } | ToKeeper::Announce { what, .. } => match what {
                Ordered::Hold => Self::Hold,
                Ordered::Release => Self::Release,
                Ordered::Shred => Self::Shred,
            },
            ToKeeper::Approvals { .. } | ToKeeper::ApprovalDrops { .. } => Self::Approvals,
            ToKeeper::Approve { .. } | ToKeeper::Refuse { .. } => Self::Approve,
            ToKeeper::Rotate { .. } => Self::Rotate,
            ToKeeper::BreakGlass(BreakGlass::Request { .. } | BreakGlass::Open { .. }) => Self::BreakGlass,
            ToKeeper::BreakGlass(BreakGlass::Approve { .. } | BreakGlass::List) => Self::Requests,
        }
    }
}

/// Why somebody of these roles may not do this; `None` if they may.
pub fn why_not(act: Act, roles: &[Role]) -> Option<String> {
    if act.may().iter().any(|role| roles.contains(role)) {
        return None;
    }
    let list = |roles: &[Role], between: &str| roles.iter().map(|role| role.word()).collect::<Vec<_>>().join(between);
    let whose = list(act.may(), " or ");
    Some(match roles {
        [] => "only who has a role on this server may ask: admin, auditor or custodian".to_owned(),
        roles => format!("{} is for: {whose}; you are: {}", act.words(), list(roles, ", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_this_one() {
        let mut table = String::from("| | commands | admin | auditor | custodian |\n|---|---|---|---|---|\n");
        for act in Act::ALL {
            let cells = Role::ALL.map(|role| if act.may().contains(&role) { "yes" } else { "" });
            table.push_str(&format!("| {} | {} | {} |\n", act.words(), act.commands(), cells.join(" | ")));
        }
        let page = include_str!("../../docs/operations.md");
        assert!(page.contains(&table), "docs/operations.md, \"Roles\", should have:\n{table}");
    }

    #[test]
    fn an_auditor_changes_nothing_and_a_custodian_alone_destroys() {
        use Act::*;
        for act in [Sweep, Reload, Kick, Backup, Hold, Release, Shred, Rotate, BreakGlass, Approve] {
            assert!(why_not(act, &[Role::Auditor]).is_some(), "{act:?}");
        }
        for act in [Release, Shred, Rotate, BreakGlass] {
            assert!(why_not(act, &[Role::Admin, Role::Auditor]).is_some(), "{act:?}");
            assert_eq!(why_not(act, &[Role::Custodian]), None, "{act:?}");
        }
        for act in Act::ALL {
            assert!(!act.may().is_empty() && why_not(*act, &[]).is_some(), "{act:?}");
            assert_eq!(why_not(*act, &Role::ALL), None, "{act:?}");
        }
    }
}
