//! "Did you mean …?": the known word nearest to what was typed. Pure.

/// Words people bring along from other servers, and what they are called here. `.` stands for either kind of file.
const ALIASES: [(&str, &str); 36] = [
    ("recipient", "to"),
    ("recipients", "to"),
    ("deliver_to", "to"),
    ("ttl", "expire"),
    ("retention", "expire"),
    ("expires", "expire"),
    ("expiry", "expire"),
    ("expires_after", "expire"),
    ("expire", "expires"),
    ("expiry", "expires"),
    ("valid_until", "expires"),
    ("allow", "accept"),
    ("include", "accept"),
    ("deny", "refuse"),
    ("exclude", "refuse"),
    ("reject", "refuse"),
    ("ip", "from"),
    ("ips", "from"),
    ("address", "from"),
    ("addresses", "from"),
    ("allow_from", "from"),
    ("password_hash", "password"),
    ("authorized_keys", "keys"),
    ("public_keys", "keys"),
    ("key", "keys"),
    ("keys", "key"),
    ("recipient", "key"),
    ("quota", "bytes"),
    ("name", "user"),
    ("username", "user"),
    ("type", "kind"),
    ("methods", "require"),
    ("cron", "schedule"),
    ("timezone", "zone"),
    ("case_insensitive", "ignore_case"),
    ("port", "listen"),
];

/// The candidate that was probably meant; `None` if none is near.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let plain = typed.to_lowercase().replace('-', "_");
    let alias = |candidate: &&str| ALIASES.iter().any(|(from, to)| *from == plain && to == candidate);
    if let Some(found) = candidates.clone().into_iter().find(alias) {
        return Some(found);
    }
    // A third of the letters may be wrong: `expier`, `max_sise`, `acceptt`.
    let most = (plain.chars().count().max(3)) / 3;
    let scored = candidates.into_iter().map(|candidate| (distance(&plain, &candidate.to_lowercase()), candidate));
    scored.filter(|(score, _)| *score <= most).min_by_key(|(score, _)| *score).map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i.max(j)
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let edited = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { edited.min(rows[i - 2][j - 2] + 1) } else { edited }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let keys = ["path", "kind", "to", "expire", "accept", "max_size"];
        for (typed, meant) in [
            ("expier", Some("expire")),
            ("max-size", Some("max_size")),
            ("recipients", Some("to")),
            ("Path", Some("path")),
            ("knid", Some("kind")),
            ("ttl", Some("expire")),
            ("zzzzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }
}
