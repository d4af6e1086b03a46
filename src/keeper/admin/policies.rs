//! What the commands may ask of policies: the one in force, and those that were, as the ledger keeps them.

use super::{PAGE, PAGE_BYTES, page, sorry};
use crate::clock::Time;
use crate::ipc::admin::{InForceRow, PolicyPart, ToCommand};
use crate::keeper::Keeper;
use crate::ledger::policies::InForce;
use crate::names::Digest;
use crate::policy::Policy;

/// The one in force, with all that is in its files.
pub fn in_force(policy: &Policy, after: Option<&str>) -> Result<ToCommand, String> {
    let text = |file: usize| Ok(policy.texts.get(file).map(|text| (text.name.clone(), text.bytes.clone())));
    let (parts, next) = parts(text, after)?;
    Ok(ToCommand::Policy { digest: policy.digest, parts, next })
}

/// Those that were in force, without their secrets.
pub fn kept(keeper: &Keeper, digest: &Digest, after: Option<&str>) -> Result<ToCommand, String> {
    let ledger = &keeper.ledger;
    let Some(record) = ledger.policy_record(digest).map_err(|e| e.to_string())? else {
        let hint = "`sealdrop policy list` has those that are kept";
        return Ok(sorry(&format!("the ledger does not keep the texts of policy {digest}"), Some(hint)));
    };
    let text = |file: usize| {
        let Some((name, hash)) = record.files.get(file) else { return Ok(None) };
        match ledger.policy_text(hash) {
            Ok(Some(text)) => Ok(Some((name.clone(), text.into_bytes()))),
            Ok(None) => Err(format!("the text of {name} is not in the ledger")),
            Err(e) => Err(e.to_string()),
        }
    };
    let (parts, next) = parts(text, after)?;
    Ok(ToCommand::Policy { digest: *digest, parts, next })
}

/// When which was in force, the earliest first.
pub fn list(keeper: &Keeper, after: Option<Time>) -> Result<ToCommand, String> {
    let found = keeper.ledger.in_force(after, PAGE + 1).map_err(|e| e.to_string())?;
    let until = found.iter().skip(1).map(|next| Some(next.at)).chain([None]);
    let rows = found.iter().zip(until).take(PAGE);
    let rows = rows.map(|(one, until)| row(keeper, one, until)).collect::<Result<Vec<_>, _>>()?;
    let more = found.len() > PAGE;
    let (rows, cut) = page(rows.into_iter(), |_| 64);
    let next = (cut || more).then(|| rows.last().map(|row| row.since)).flatten();
    Ok(ToCommand::PoliciesInForce { rows, next })
}

/// The one in force at a moment, or no row.
pub fn at(keeper: &Keeper, at: Time) -> Result<ToCommand, String> {
    let Some(found) = keeper.ledger.in_force_at(at).map_err(|e| e.to_string())? else {
        return Ok(ToCommand::PoliciesInForce { rows: Vec::new(), next: None });
    };
    let next = keeper.ledger.in_force(Some(found.at), 1).map_err(|e| e.to_string())?;
    let row = row(keeper, &found, next.first().map(|next| next.at))?;
    Ok(ToCommand::PoliciesInForce { rows: vec![row], next: None })
}

fn row(keeper: &Keeper, found: &InForce, until: Option<Time>) -> Result<InForceRow, String> {
    let record = keeper.ledger.policy_record(&found.digest).map_err(|e| e.to_string())?;
    let files = record.map(|record| u32::try_from(record.files.len()).unwrap_or(u32::MAX));
    Ok(InForceRow { since: found.at, until, digest: found.digest, files })
}

/// A page of texts, and where the next begins: `FILE:BYTE`, counted from 0.
fn parts(
    text: impl Fn(usize) -> Result<Option<(String, Vec<u8>)>, String>,
    after: Option<&str>,
) -> Result<(Vec<PolicyPart>, Option<String>), String> {
    let begin = |after: &str| {
        let (file, byte) = after.split_once(':')?;
        Some((file.parse::<usize>().ok()?, byte.parse::<usize>().ok()?))
    };
    let (mut file, mut byte) = match after {
        None => (0, 0),
        Some(after) => begin(after).ok_or_else(|| "not a page of this list".to_owned())?,
    };
    let (mut parts, mut room) = (Vec::new(), PAGE_BYTES);
    while let Some((name, bytes)) = text(file)? {
        let rest = bytes.get(byte..).unwrap_or_default();
        let cost = name.len() + 16;
        if room <= cost {
            return Ok((parts, Some(format!("{file}:{byte}"))));
        }
        let part = rest.get(..room - cost).unwrap_or(rest);
        parts.push(PolicyPart { name, bytes: part.to_vec() });
        room -= cost + part.len();
        (file, byte) = if part.len() < rest.len() { (file, byte + part.len()) } else { (file + 1, 0) };
    }
    Ok((parts, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyText;

    #[test]
    fn a_policy_of_any_size_comes_whole_page_by_page() {
        let text = |name: &str, len: usize| PolicyText {
            name: name.to_owned(),
            bytes: (0..len).map(|n| (n * 31 % 251) as u8).collect(),
        };
        let texts = vec![text("a.toml", 0), text("b.toml", 3 * PAGE_BYTES + 5), text("c.toml", 100), text("d.toml", 7)];
        let whole = Policy::new(Digest([7; 32]), []).read_from(texts.clone());
        let (mut got, mut after): (Vec<PolicyText>, _) = (Vec::new(), None);
        loop {
            let Ok(ToCommand::Policy { digest, parts, next }) = in_force(&whole, after.as_deref()) else { panic!() };
            assert_eq!(digest, whole.digest);
            assert!(!parts.is_empty());
            for part in parts {
                match got.last_mut().filter(|last| last.name == part.name) {
                    Some(last) => last.bytes.extend(part.bytes),
                    None => got.push(PolicyText { name: part.name, bytes: part.bytes }),
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(got, texts);
        assert!(in_force(&whole, Some("nonsense")).is_err());
        assert!(matches!(in_force(&whole, Some("9:9")), Ok(ToCommand::Policy { next: None, .. })));
    }
}
