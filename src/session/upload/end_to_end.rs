//! What an upload to a folder with `require = "e2e"` has to be: a file that its sender sealed to just the folder's
//! recipients. It is judged with its first bytes, so that nobody sends gigabytes in vain, and whole before it is finished.

use zeroize::Zeroizing;

use super::Upload;
use crate::seal::{self, FOOTER_LEN, Recipient, SAYS_TO_WHOM, SealError, Unfit};
use crate::session::reply::{CUT_SHORT, DAMAGED, Outcome, Refusal};
use crate::shown::Shown;

/// The keys, and how much of the beginning was held against them.
pub struct Wanted {
    recipients: Vec<Recipient>,
    judged: usize,
}

impl Wanted {
    /// `None`: the folder takes anything.
    pub fn new(sealed_to: &[String]) -> Outcome<Option<Self>> {
        let recipients: Result<Vec<Recipient>, _> = sealed_to.iter().map(|text| text.parse()).collect();
        let recipients = recipients.map_err(|_| Refusal::failure("the server failed to do this"))?;
        Ok((!recipients.is_empty()).then_some(Self { recipients, judged: 0 }))
    }

    /// As the trailer names them, for the keeper to see that it was these.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.recipients.iter().map(ToString::to_string)
    }
}

impl Upload {
    /// After a write at `offset`: judges as much of the beginning as has come. A gap in it is waited for.
    pub(super) fn judge_beginning(&mut self, offset: u64) -> Outcome<()> {
        let Some(wanted) = &mut self.wanted else { return Ok(()) };
        if offset < SAYS_TO_WHOM as u64 {
            wanted.judged = 0;
        }
        if wanted.judged == SAYS_TO_WHOM { Ok(()) } else { self.judge_again() }
    }

    fn judge_again(&mut self) -> Outcome<()> {
        let mut beginning = Zeroizing::new(Vec::new());
        self.read(0, SAYS_TO_WHOM, &mut beginning)?;
        let Some(wanted) = &mut self.wanted else { return Ok(()) };
        seal::beginning(&beginning, &wanted.recipients).map_err(|unfit| {
            tracing::info!(path = %Shown(&self.path), why = %unfit, "an upload is not sealed end to end");
            Refusal::from(unfit)
        })?;
        wanted.judged = beginning.len();
        Ok(())
    }

    /// Everything has come that will. [`CUT_SHORT`] is no fault of what there is: it can be continued.
    pub fn judge_whole(&mut self) -> Outcome<()> {
        if self.wanted.is_none() {
            return Ok(());
        }
        self.fill_gaps()?;
        self.judge_again()?;
        let (length, mut last) = (self.len(), Zeroizing::new(Vec::new()));
        let Some(at) = length.checked_sub(FOOTER_LEN as u64).filter(|_| length > SAYS_TO_WHOM as u64) else {
            return Err(CUT_SHORT);
        };
        self.read(at, FOOTER_LEN, &mut last)?;
        let last = last.first_chunk().ok_or(DAMAGED)?;
        seal::ending(last, length).map_err(|error| match error {
            SealError::Length => CUT_SHORT,
            _ => Unfit::Malformed.into(),
        })
    }
}
