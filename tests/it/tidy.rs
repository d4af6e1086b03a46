//! What the compiler does not see of the house rules: who may import whom, where `unsafe` and two libraries may stand,
//! that documents keep step with code, that no file grows without end. Each refusal names file and line.

use std::fs;
use std::path::{Path, PathBuf};

/// Every `.rs` file below `dir`, with its path from the repository's root and its text.
fn sources(dir: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<PathBuf> = crate::site::everything_below(&root.join(dir));
    found.retain(|path| path.extension().is_some_and(|e| e == "rs"));
    found.sort();
    let named = found.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a source file");
        (path.strip_prefix(root).expect("below the root").display().to_string(), text)
    });
    named.collect()
}

/// Lines outside comments, with their numbers, up to the file's own tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|two| two[0] == "#[cfg(test)]" && two[1].ends_with("mod tests {"));
    let product = text.lines().take(tests.unwrap_or(lines.len()));
    product.enumerate().map(|(n, line)| (n + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Files that are compiled for tests only: modules declared below `#[cfg(test)]`, what lies in their folders, and `tests`.
fn is_test(file: &str) -> bool {
    let path = Path::new(file).with_extension("");
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    if folder.as_os_str().is_empty() {
        return false;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parents = [root.join(folder).join("mod.rs"), root.join(folder).with_extension("rs")];
    let declared = parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().collect();
        lines.windows(2).any(|two| two[0] == "#[cfg(test)]" && two[1].ends_with(&format!("mod {name};")))
    });
    declared || name == "tests" || is_test(&folder.display().to_string())
}

/// The parts in the order of `src/lib.rs`: each may use those of a lower rank, and roles never each other.
fn rank(part: &str) -> u32 {
    match part {
        "names" | "clock" | "sums" | "vpath" => 0,
        "sys" | "shown" => 1,
        "seal" | "sftp" | "policy" => 2,
        "config" => 3,
        "ipc" => 4,
        "ledger" => 5,
        "keeper" | "gate" | "session" | "runner" | "witness" => 6,
        "cli" => 7,
        _ => panic!("`{part}` has no place in the order of parts: give it one here and in src/lib.rs"),
    }
}

fn part_of(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("src/")?;
    let part = rest.split('/').next()?.trim_end_matches(".rs");
    (!["main", "lib"].contains(&part)).then_some(part)
}

/// A file that no module declares is never compiled: its tests pass by not being there.
#[test]
fn every_file_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut forgotten = Vec::new();
    for (file, _) in [sources("src"), sources("tests/it")].concat() {
        let path = root.join(&file);
        let (folder, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        if ["lib", "main"].contains(&name) {
            continue;
        }
        let (home, name) = match name {
            "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
            name => (folder, name),
        };
        let parents = [home.join("mod.rs"), home.with_extension("rs"), home.join("lib.rs"), home.join("main.rs")];
        let declares = |text: String| text.lines().any(|line| line.ends_with(&format!("mod {name};")));
        if !parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(declares) {
            forgotten.push(file);
        }
    }
    assert!(forgotten.is_empty(), "no module declares {forgotten:?}");
}

#[test]
fn imports_point_down_and_roles_do_not_meet() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        let Some(part) = part_of(&file) else { continue };
        for (n, line) in code(&text) {
            for used in line.split("crate::").skip(1) {
                let grouped = used.strip_prefix('{').map(|names| names.split(',').collect::<Vec<_>>());
                for name in grouped.unwrap_or_else(|| vec![used]) {
                    let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    // Macros, `self` and the like are no parts.
                    if name.is_empty()
                        || name == "self"
                        || !Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&name).exists()
                            && !Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{name}.rs")).exists()
                    {
                        continue;
                    }
                    let upward =
                        rank(&name) > rank(part) || rank(&name) == rank(part) && name != part && rank(part) != 0;
                    if upward {
                        wrong.push(format!("{file}:{n}: {part} uses {name}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up or across:\n{}", wrong.join("\n"));
}

#[test]
fn pure_parts_do_no_io() {
    let forbidden = [
        "tokio::",
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "crate::config",
        "crate::sys",
        "SystemTime::now",
        "Instant::now",
        "clock::now",
    ];
    refuse(&["src/seal", "src/sftp", "src/policy"], |_, line| forbidden.iter().any(|word| line.contains(word)));
}

#[test]
fn unsafe_is_in_sys_alone() {
    refuse(&["src"], |file, line| {
        !file.starts_with("src/sys/")
            && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    });
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for (file, text) in sources("src/sys") {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            if line.contains("unsafe {") || line.trim_start().starts_with("unsafe impl") {
                let said = lines[n.saturating_sub(8)..=n]
                    .iter()
                    .any(|line| line.contains("SAFETY") || line.contains("Safety") || line.contains("Sound"));
                assert!(said, "{file}:{}: an unsafe block without its reason", n + 1);
            }
        }
    }
}

#[test]
fn toml_and_sled_have_one_user_each() {
    refuse(&["src"], |file, line| {
        !file.starts_with("src/config/") && (line.contains("toml::") || line.contains("use toml"))
    });
    refuse(&["src"], |file, line| {
        !file.starts_with("src/ledger/") && (line.contains("sled::") || line.contains("use sled"))
    });
}

#[test]
fn only_the_voice_prints() {
    let printing = ["println!", "eprintln!", "print!(", "eprint!(", "dbg!("];
    refuse(&["src"], |_, line| printing.iter().any(|word| line.contains(word)));
}

#[test]
fn nothing_is_left_for_later() {
    let later = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for (file, text) in [sources("src"), sources("tests")].concat() {
        for (n, line) in text.lines().enumerate() {
            assert!(!later.iter().any(|word| line.contains(word)), "{file}:{}: {line}", n + 1);
        }
    }
}

#[test]
fn production_code_does_not_panic_on_purpose() {
    refuse(&["src"], |file, line| {
        !file.contains("test") && [".unwrap()", ".expect(\"", "panic!("].iter().any(|word| line.contains(word))
    });
}

#[test]
fn every_file_opens_with_its_purpose_and_stays_readable() {
    for (file, text) in [sources("src"), sources("tests")].concat() {
        assert!(text.starts_with("//!"), "{file} does not say what it is for");
        let length = text.lines().count();
        assert!(length <= 600, "{file} has {length} lines");
    }
}

/// The variants of the enums of a source file: at the first level of indentation, beginning with a capital.
fn variants(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("pub enum ") {
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if inside && line.starts_with("    ") && line.as_bytes().get(4).is_some_and(u8::is_ascii_uppercase) {
            found.push(line.trim().chars().take_while(|c| c.is_alphanumeric()).collect());
        }
    }
    found
}

#[test]
fn the_ipc_page_names_every_message() {
    let page = document("docs/ipc.md");
    for edge in ["admin", "gate", "jail", "porch", "runner"] {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/ipc/{edge}.rs"))).unwrap();
        let names = variants(&text);
        assert!(!names.is_empty(), "{edge} has messages");
        for name in names {
            assert!(page.contains(&format!("`{name}")), "docs/ipc.md does not name `{name}` of src/ipc/{edge}.rs");
        }
    }
}

#[test]
fn the_policy_page_names_every_key_of_the_samples() {
    let page = document("docs/policy.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for path in crate::site::everything_below(&root) {
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let setting = line.trim_start_matches(['#', ' ']);
            let key: String = setting.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !key.is_empty() && setting[key.len()..].trim_start().starts_with("= ") {
                assert!(
                    page.contains(&format!("`{key}`")),
                    "docs/policy.md does not name `{key}` of {}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_document_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = crate::site::everything_below(&root.join("docs"));
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root.join(name)));
    for page in pages.into_iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let there = page.parent().unwrap_or(root).join(target).exists();
            assert!(there, "{} links to {target}, which is not there", page.display());
        }
    }
    for (file, text) in sources("src") {
        for word in text.split(|c: char| c.is_whitespace() || "`()\",;".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            if word.starts_with("docs/") && word.ends_with(".md") {
                assert!(root.join(word).exists(), "{file} names {word}, which is not there");
            }
        }
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = document("Cargo.toml");
    let mut dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            dependencies = line.ends_with("dependencies]");
        } else if dependencies && line.contains(" = ") && !line.starts_with('#') {
            assert!(
                line.contains("} # ") || line.contains("\" # ") || line.contains("\"  ") && line.contains('#'),
                "no reason: {line}"
            );
        }
    }
}

fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[track_caller]
fn refuse(dirs: &[&str], wrong: impl Fn(&str, &str) -> bool) {
    let mut found = Vec::new();
    for (file, text) in dirs.iter().flat_map(|dir| sources(dir)).filter(|(file, _)| !is_test(file)) {
        for (n, line) in code(&text) {
            if wrong(&file, line) {
                found.push(format!("{file}:{n}: {}", line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
