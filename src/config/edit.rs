//! Changes to a policy file that leave everything else in it as it was: comments, order, blank lines, the admin's own way
//! of writing lists. Text in, text out; whether the result can be used is asked afterwards, as of any file.

use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

/// Why a text could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Everything that is wrong with it is `check`'s to say.
    #[error("it is not TOML")]
    Syntax,
    #[error("`{0}` is not what it is in a policy file")]
    Shape(&'static str),
}

/// `text` as TOML quotes it.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A policy file that is being changed.
pub struct Edit(DocumentMut);

impl Edit {
    pub fn of(text: &str) -> Result<Self, EditError> {
        text.parse().map(Self).map_err(|_| EditError::Syntax)
    }

    pub fn text(&self) -> String {
        self.0.to_string()
    }

    /// `login.disabled`: absent is the same as false, so enabling takes the line away.
    pub fn set_disabled(&mut self, disabled: bool) -> Result<(), EditError> {
        let login = self.login()?;
        if disabled {
            login.insert("disabled", Item::Value(Value::from(true)));
        } else {
            login.remove("disabled");
        }
        Ok(())
    }

    /// Adds a public key to `login.keys`, after the others and written like the last of them.
    pub fn add_key(&mut self, line: &str) -> Result<(), EditError> {
        let login = self.login()?;
        if !login.contains_key("keys") {
            login.insert("keys", Item::Value(Value::from(Array::new())));
        }
        let keys = login.get_mut("keys").and_then(Item::as_array_mut).ok_or(EditError::Shape("login.keys"))?;
        let mut value = Value::from(line);
        // One to a line where the others are.
        if let Some(last) = keys.iter().last() {
            *value.decor_mut() = last.decor().clone();
            let prefix = last.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or(" ");
            // A comment before the last key is about that one.
            let plain = prefix.rsplit_once('\n').map_or(prefix.to_owned(), |(_, indent)| format!("\n{indent}"));
            value.decor_mut().set_prefix(if plain.is_empty() { " ".to_owned() } else { plain });
            value.decor_mut().set_suffix("");
        }
        keys.push_formatted(value);
        Ok(())
    }

    /// Takes the keys away whose text `is_it` knows; how many.
    pub fn remove_keys(&mut self, is_it: impl Fn(&str) -> bool) -> Result<usize, EditError> {
        let login = self.login()?;
        let Some(keys) = login.get_mut("keys") else { return Ok(0) };
        let keys = keys.as_array_mut().ok_or(EditError::Shape("login.keys"))?;
        let before = keys.len();
        keys.retain(|value| !text_of(value).is_some_and(&is_it));
        Ok(before - keys.len())
    }

    fn login(&mut self) -> Result<&mut dyn TableLike, EditError> {
        self.0.get_mut("login").and_then(Item::as_table_like_mut).ok_or(EditError::Shape("[login]"))
    }
}

/// A key is a text, or a table with the text as `key`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.as_inline_table()?.get("key")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: &str = "# who\nuser = \"acme\" # the file's name\n\n[login]\nkeys = [\n  # the night job\n  \"ssh-ed25519 AAAA one\",\n  \"ssh-ed25519 BBBB two\", # spare\n]\nfrom = [\"192.0.2.0/24\"]\n";

    fn edited(text: &str, change: impl FnOnce(&mut Edit)) -> String {
        let mut edit = Edit::of(text).unwrap();
        change(&mut edit);
        edit.text()
    }

    #[test]
    fn disabling_and_enabling_leaves_the_file_as_it_was() {
        let disabled = edited(ACME, |edit| edit.set_disabled(true).unwrap());
        assert_eq!(disabled, format!("{ACME}disabled = true\n"));
        assert_eq!(edited(&disabled, |edit| edit.set_disabled(false).unwrap()), ACME);
    }

    #[test]
    fn a_key_is_added_on_a_line_of_its_own_where_the_others_are() {
        let added = edited(ACME, |edit| edit.add_key("ssh-ed25519 CCCC three").unwrap());
        assert!(
            added.contains("  \"ssh-ed25519 BBBB two\",") && added.contains("\n  \"ssh-ed25519 CCCC three\""),
            "{added}"
        );
        assert!(added.contains("# spare") && added.contains("# the night job"), "{added}");
        let one = edited("[login]\nkeys = [\"a\"]\n", |edit| edit.add_key("b").unwrap());
        assert_eq!(one, "[login]\nkeys = [\"a\", \"b\"]\n");
        let none = edited("[login]\npassword = \"x\"\n", |edit| edit.add_key("b").unwrap());
        assert_eq!(none, "[login]\npassword = \"x\"\nkeys = [\"b\"]\n");
    }

    #[test]
    fn keys_go_by_their_text_in_either_form() {
        let mut edit = Edit::of("[login]\nkeys = [\"a one\", { key = \"b two\", expires = 2027-01-01 }]\n").unwrap();
        assert_eq!(edit.remove_keys(|key| key == "b two"), Ok(1));
        assert_eq!(edit.text(), "[login]\nkeys = [\"a one\"]\n");
        assert_eq!(edit.remove_keys(|key| key == "c"), Ok(0));
    }

    #[test]
    fn what_is_no_policy_file_is_not_changed() {
        assert!(matches!(Edit::of("a = = 1"), Err(EditError::Syntax)));
        assert_eq!(Edit::of("a = 1").unwrap().set_disabled(true), Err(EditError::Shape("[login]")));
        assert_eq!(Edit::of("[login]\nkeys = 1").unwrap().add_key("a"), Err(EditError::Shape("login.keys")));
    }
}
