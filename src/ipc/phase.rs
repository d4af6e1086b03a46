//! Who may ask the keeper what, and when: one row per request, one column per phase of a session. The keeper looks up
//! each request here before it does anything else; what is not allowed ends that peer. A session moves from porch to
//! jail once, when it is admitted, and never back.

use super::{jail, porch};

/// What a session is to the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A stranger: may ask to be admitted.
    Porch,
    /// One user's session.
    Jail,
}

/// Each request of a session once, by the name of its variant. docs/ipc.md has a line for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Attempt,
    Stage,
    RenewJournal,
    Commit,
    Park,
    Discard,
    Open,
    Pulled,
    Corrupt,
    List,
    MakeFolder,
    RemoveFolder,
    Remove,
    Rename,
    SetTimes,
    Receipts,
    Receipt,
    Paper,
    Rejected,
    Certificate,
    Digests,
    DropStatus,
    Space,
    Refused,
    Moved,
    Bye,
}

/// How many descriptors come with a request, exactly.
pub const COMMIT_DESCRIPTORS: usize = 1;

impl Request {
    pub const ALL: [Self; 26] = [
        Self::Attempt,
        Self::Stage,
        Self::RenewJournal,
        Self::Commit,
        Self::Park,
        Self::Discard,
        Self::Open,
        Self::Pulled,
        Self::Corrupt,
        Self::List,
        Self::MakeFolder,
        Self::RemoveFolder,
        Self::Remove,
        Self::Rename,
        Self::SetTimes,
        Self::Receipts,
        Self::Receipt,
        Self::Paper,
        Self::Rejected,
        Self::Certificate,
        Self::Digests,
        Self::DropStatus,
        Self::Space,
        Self::Refused,
        Self::Moved,
        Self::Bye,
    ];

    /// The whole table.
    pub fn allowed_in(self, phase: Phase) -> bool {
        match (self, phase) {
            (Self::Attempt, Phase::Porch) => true,
            (Self::Attempt, Phase::Jail) => false,
            (_, Phase::Porch) => false,
            (_, Phase::Jail) => true,
        }
    }

    /// Whether it may come in this phase with so many descriptors; what may not ends the peer.
    pub fn may_come(self, phase: Phase, descriptors: usize) -> bool {
        self.allowed_in(phase) && descriptors == self.descriptors()
    }

    /// How many descriptors must come with it; any other number ends the peer.
    pub fn descriptors(self) -> usize {
        if self == Self::Commit { COMMIT_DESCRIPTORS } else { 0 }
    }
}

impl From<&porch::ToKeeper> for Request {
    fn from(request: &porch::ToKeeper) -> Self {
        match request {
            porch::ToKeeper::Attempt(_) => Self::Attempt,
        }
    }
}

impl From<&jail::ToKeeper> for Request {
    fn from(request: &jail::ToKeeper) -> Self {
        use jail::ToKeeper;
        match request {
            ToKeeper::Stage { .. } => Self::Stage,
            ToKeeper::RenewJournal { .. } => Self::RenewJournal,
            ToKeeper::Commit(_) => Self::Commit,
            ToKeeper::Park { .. } => Self::Park,
            ToKeeper::Discard { .. } => Self::Discard,
            ToKeeper::Open { .. } => Self::Open,
            ToKeeper::Pulled { .. } => Self::Pulled,
            ToKeeper::Corrupt { .. } => Self::Corrupt,
            ToKeeper::List { .. } => Self::List,
            ToKeeper::MakeFolder { .. } => Self::MakeFolder,
            ToKeeper::RemoveFolder { .. } => Self::RemoveFolder,
            ToKeeper::Remove { .. } => Self::Remove,
            ToKeeper::Rename { .. } => Self::Rename,
            ToKeeper::SetTimes { .. } => Self::SetTimes,
            ToKeeper::Receipts { .. } => Self::Receipts,
            ToKeeper::Receipt { .. } => Self::Receipt,
            ToKeeper::Paper { .. } => Self::Paper,
            ToKeeper::Rejected { .. } => Self::Rejected,
            ToKeeper::Certificate { .. } => Self::Certificate,
            ToKeeper::Digests { .. } => Self::Digests,
            ToKeeper::DropStatus { .. } => Self::DropStatus,
            ToKeeper::Space { .. } => Self::Space,
            ToKeeper::Refused { .. } => Self::Refused,
            ToKeeper::Moved { .. } => Self::Moved,
            ToKeeper::Bye { .. } => Self::Bye,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_may_only_ask_to_be_admitted_and_a_user_may_not_ask_again() {
        for request in Request::ALL {
            let stranger = request == Request::Attempt;
            assert_eq!(request.allowed_in(Phase::Porch), stranger, "{request:?}");
            assert_eq!(request.allowed_in(Phase::Jail), !stranger, "{request:?}");
        }
    }

    #[test]
    fn only_a_commit_brings_a_descriptor() {
        for request in Request::ALL {
            assert_eq!(request.descriptors(), usize::from(request == Request::Commit), "{request:?}");
        }
    }

    #[test]
    fn a_request_comes_in_its_phase_and_with_its_descriptors_or_not_at_all() {
        for request in Request::ALL {
            for phase in [Phase::Porch, Phase::Jail] {
                for descriptors in 0..=super::super::DESCRIPTORS_MAX {
                    let fits = request.allowed_in(phase) && request.descriptors() == descriptors;
                    assert_eq!(request.may_come(phase, descriptors), fits, "{request:?} {phase:?} {descriptors}");
                }
            }
        }
    }

    #[test]
    fn the_table_has_each_request_once() {
        for (i, request) in Request::ALL.iter().enumerate() {
            assert!(!Request::ALL[i + 1..].contains(request), "{request:?}");
        }
    }
}
