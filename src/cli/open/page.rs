//! The page of `sealdrop open --page`: one HTML file that opens sealed files in a browser, for a recipient who can
//! install nothing. It needs no server and no network, and its content security policy allows it neither.

/// The page, as it is saved.
pub const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::note::base64;
    use sha2::{Digest, Sha256};

    fn inside(tag: &str) -> &'static str {
        let (_, rest) = PAGE.split_once(&format!("<{tag}>")).unwrap();
        rest.split_once(&format!("</{tag}>")).unwrap().0
    }

    #[test]
    fn the_pages_policy_names_its_one_script_and_its_one_style_and_allows_nothing_else() {
        let hash = |tag| base64(&Sha256::digest(inside(tag)));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'none'; base-uri 'none'; \
             form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash("script"),
            hash("style")
        );
        assert!(PAGE.contains(&format!("content=\"{policy}\"")), "the page's policy has to be: {policy}");
        assert_eq!(PAGE.matches("<script").count() + PAGE.matches("<style").count(), 2);
    }

    #[test]
    fn the_page_names_no_address() {
        for word in ["http:", "https:", "src=", " href=", "url(", "@import", "fetch(", "eval(", "innerHTML"] {
            assert!(!PAGE.contains(word), "the page has `{word}` in it");
        }
    }
}
