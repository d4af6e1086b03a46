//! The command line of an exec request, cut into words as a POSIX shell would (XCU 2.2), and nothing more: quotes and
//! backslashes say where a word ends, and everything that would make a shell do something is refused. So what a client
//! wrote for a shell means here what it meant there, or nothing at all.

/// Longer than any line of the commands served; a path is 3 KiB, and its quoting may take four times that.
pub const LINE_MAX: usize = 64 * 1024;

/// `sha256sum` of a whole folder by hand; more is not one line.
pub const WORDS_MAX: usize = 1024;

/// One word of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub bytes: Vec<u8>,
    /// Where `*`, `?` and `[` stood without quotes: a shell would look for names there.
    pub wild: Vec<usize>,
}

/// Why a line is not one of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    #[error("a quote is not closed")]
    Open,
    #[error("a backslash stands at the end")]
    Backslash,
    #[error("`{}` stands there without quotes, and there is no shell here", char::from(*.0))]
    Shell(u8),
    #[error("the line is too long")]
    TooLong,
    #[error("the line has a NUL byte")]
    Nul,
}

/// Cuts `line` into its words.
pub fn split(line: &[u8]) -> Result<Vec<Word>, WordsError> {
    if line.len() > LINE_MAX {
        return Err(WordsError::TooLong);
    }
    if line.contains(&0) {
        return Err(WordsError::Nul);
    }
    let mut words = Vec::new();
    // `None` between words: `''` is a word, nothing is none.
    let mut word: Option<Word> = None;
    let mut rest = line;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if matches!(byte, b' ' | b'\t') {
            words.extend(word.take());
            continue;
        }
        // A backslash before the end of a line joins it to the next, and begins no word.
        if let (b'\\', [b'\n', after @ ..]) = (byte, rest) {
            rest = after;
            continue;
        }
        let into = word.get_or_insert_with(|| Word { bytes: Vec::new(), wild: Vec::new() });
        match byte {
            b'\'' => {
                let end = rest.iter().position(|&b| b == b'\'').ok_or(WordsError::Open)?;
                into.bytes.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
            }
            b'"' => rest = double_quoted(rest, &mut into.bytes)?,
            b'\\' => {
                let (&next, after) = rest.split_first().ok_or(WordsError::Backslash)?;
                into.bytes.push(next);
                rest = after;
            }
            b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'\n' => {
                return Err(WordsError::Shell(byte));
            }
            b'#' if into.bytes.is_empty() => return Err(WordsError::Shell(byte)),
            b'*' | b'?' | b'[' => {
                into.wild.push(into.bytes.len());
                into.bytes.push(byte);
            }
            _ => into.bytes.push(byte),
        }
        if words.len() >= WORDS_MAX {
            return Err(WordsError::TooLong);
        }
    }
    words.extend(word);
    Ok(words)
}

/// What follows a `"`, up to and without the one that closes it; the rest of the line.
fn double_quoted<'a>(mut rest: &'a [u8], into: &mut Vec<u8>) -> Result<&'a [u8], WordsError> {
    loop {
        let (&byte, tail) = rest.split_first().ok_or(WordsError::Open)?;
        rest = tail;
        match (byte, rest) {
            (b'"', _) => return Ok(rest),
            (b'$' | b'`', _) => return Err(WordsError::Shell(byte)),
            (b'\\', [b'\n', after @ ..]) => rest = after,
            (b'\\', [next @ (b'$' | b'`' | b'"' | b'\\'), after @ ..]) => {
                into.push(*next);
                rest = after;
            }
            _ => into.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| String::from_utf8(word.bytes).unwrap()).collect()
    }

    #[test]
    fn quotes_and_backslashes_mean_what_they_mean_to_a_shell() {
        for (line, expected) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("receipt /a/b", &["receipt", "/a/b"]),
            ("  a   b ", &["a", "b"]),
            (r"a\ b c", &["a b", "c"]),
            ("'a b'c\"d e\"", &["a bcd e"]),
            ("'' \"\"", &["", ""]),
            (r#"'a\b' "a\b" "a\"b\$\`\\""#, &[r"a\b", r"a\b", "a\"b$`\\"]),
            ("'a\nb' a\\\nb \\\n c", &["a\nb", "ab", "c"]),
            (r"'it'\''s'", &["it's"]),
            ("~/x a#b {1..2} !x a=b", &["~/x", "a#b", "{1..2}", "!x", "a=b"]),
            ("'$x;`(' ü", &["$x;`(", "ü"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn whatever_a_shell_would_act_upon_is_refused() {
        for line in
            ["a;b", "a|b", "a&b", "a&&b", "a>b", "a<b", "(a)", "a $x", "a \"$x\"", "a `b`", "a \"`b`\"", "a\nb", "a #b"]
        {
            assert!(matches!(split(line.as_bytes()), Err(WordsError::Shell(_))), "{line}");
        }
        assert_eq!(split(b"a 'b"), Err(WordsError::Open));
        assert_eq!(split(b"a \"b"), Err(WordsError::Open));
        assert_eq!(split(b"a b\\"), Err(WordsError::Backslash));
        assert_eq!(split(b"a\0b"), Err(WordsError::Nul));
        assert_eq!(split(&vec![b'a'; LINE_MAX + 1]), Err(WordsError::TooLong));
        assert_eq!(split(&b"a ".repeat(WORDS_MAX + 1)), Err(WordsError::TooLong));
    }

    #[test]
    fn a_pattern_is_told_from_a_name_that_looks_like_one() {
        let words = split(br"a* 'a*' a\*? x[1]").unwrap();
        let wild: Vec<_> = words.iter().map(|word| word.wild.as_slice()).collect();
        assert_eq!(wild, [&[1][..], &[], &[2], &[1]]);
    }

    /// In single quotes, as `shlex.quote` and most scripts do it.
    fn single_quoted(word: &[u8]) -> Vec<u8> {
        let mut out = vec![b'\''];
        for &byte in word {
            if byte == b'\'' { out.extend_from_slice(b"'\\''") } else { out.push(byte) }
        }
        out.push(b'\'');
        out
    }

    proptest! {
        #[test]
        fn any_words_come_back_from_their_quoted_form(
            words in proptest::collection::vec(proptest::collection::vec(1u8.., 0..20), 0..8)
        ) {
            let line: Vec<_> = words.iter().map(|word| single_quoted(word)).collect();
            let split: Vec<_> = split(&line.join(&b' ')).unwrap().into_iter().map(|word| word.bytes).collect();
            prop_assert_eq!(split, words);
        }

        #[test]
        fn any_word_comes_back_behind_backslashes(word in proptest::collection::vec(1u8.., 1..40)) {
            prop_assume!(!word.contains(&b'\n'));
            let line: Vec<u8> = word.iter().flat_map(|&byte| [b'\\', byte]).collect();
            prop_assert_eq!(split(&line).unwrap(), [Word { bytes: word, wild: Vec::new() }]);
        }

        #[test]
        fn arbitrary_lines_never_panic(line: Vec<u8>) {
            if let Ok(words) = split(&line) {
                prop_assert!(words.iter().all(|word| word.wild.iter().all(|&at| b"*?[".contains(&word.bytes[at]))));
            }
        }
    }
}
