//! A headless Chromium that a test drives: files chosen or dropped, expressions evaluated, and everything kept that it
//! complained of or asked the network for. It speaks the DevTools protocol over a pipe, so it listens on no port.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// One browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    events: VecDeque<Value>,
    home: tempfile::TempDir,
}

/// Root may not have Chromium's sandbox; the rest keeps it from looking for its maker's servers.
const OPTIONS: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                       --disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe";

impl Browser {
    /// Loads `page`, before which `script` has run, and keeps every request that it makes.
    pub fn watched(page: &Path, script: &str) -> Self {
        Self::start(page, script, true)
    }

    /// The same, for large files: no event is kept of what it reads.
    pub fn unwatched(page: &Path, script: &str) -> Self {
        Self::start(page, script, false)
    }

    fn start(page: &Path, script: &str, watched: bool) -> Self {
        let home = tempfile::tempdir().expect("a folder for its profile");
        // It reads commands from descriptor 3 and answers on 4; two zero-ended streams.
        let line = format!("exec chromium {OPTIONS} --user-data-dir=\"$1\" about:blank 3<&0 4>&1 0</dev/null 1>&2");
        let mut child = Command::new("sh")
            .args(["-c", &line, "sh"])
            .arg(home.path().join("profile"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium");
        let to = child.stdin.take().expect("its commands");
        let from = BufReader::new(child.stdout.take().expect("its answers"));
        let mut browser = Self { child, to, from, session: None, last: 0, events: VecDeque::new(), home };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.ask("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        let downloads = browser.downloads();
        browser.ask(
            "Browser.setDownloadBehavior",
            json!({"behavior": "allow", "downloadPath": downloads, "eventsEnabled": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        if watched {
            browser.ask("Network.enable", json!({}));
        }
        browser.ask("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
        browser.ask("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        browser.wait_for(|event| event["method"] == "Page.loadEventFired");
        browser
    }

    /// Where downloads arrive, under the names that the page gave them.
    pub fn downloads(&self) -> PathBuf {
        self.home.path().join("downloads")
    }

    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut request = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{request}\0").as_bytes()).expect("a browser that listens");
        loop {
            let answer = self.next();
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).expect("an answer");
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// The event that is meant, among those that came and those that come.
    pub fn wait_for(&mut self, meant: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.events.iter().find(|event| meant(event)) {
            return found.clone();
        }
        loop {
            let event = self.next();
            self.events.push_back(event.clone());
            if meant(&event) {
                return event;
            }
        }
    }

    /// The value of an expression, a promise's when it has one; as if the person had just clicked.
    pub fn value(&mut self, expression: &str) -> Value {
        let params =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let answer = self.ask("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits in the page until `condition` holds.
    pub fn until(&mut self, condition: &str) {
        self.value(&format!(
            "new Promise(done => {{ const look = () => {condition} ? done(true) : setTimeout(look, 5); look(); }})"
        ));
    }

    /// Chooses a file in the input with this id.
    pub fn choose(&mut self, input: &str, file: &Path) {
        let found = self.ask("Runtime.evaluate", json!({"expression": format!("document.getElementById('{input}')")}));
        self.ask("DOM.setFileInputFiles", json!({"files": [file], "objectId": found["result"]["objectId"]}));
    }

    /// Drops files on the page.
    pub fn drop_files(&mut self, files: &[&Path]) {
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({"items": [], "files": files, "dragOperationsMask": 1});
            self.ask("Input.dispatchDragEvent", json!({"type": kind, "x": 200, "y": 200, "data": data}));
        }
    }

    /// Waits for a download to end and gives its file.
    pub fn downloaded(&mut self) -> PathBuf {
        let begun = self.wait_for(|event| event["method"] == "Browser.downloadWillBegin");
        self.wait_for(|event| event["method"] == "Browser.downloadProgress" && event["params"]["state"] == "completed");
        self.events.retain(|event| !event["method"].as_str().is_some_and(|name| name.starts_with("Browser.download")));
        self.downloads().join(begun["params"]["suggestedFilename"].as_str().expect("a name"))
    }

    /// What it complained of (the console, refusals by the content security policy among it, exceptions), and what it
    /// asked for beside the page itself and blobs of the page's own.
    pub fn complaints(&mut self) -> Vec<String> {
        self.value("1"); // What happened before has been told by then.
        let complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded") => true,
            Some("Network.requestWillBeSent") => {
                let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
                !url.starts_with("file://") && !url.starts_with("blob:")
            }
            _ => false,
        };
        self.events.iter().filter(complaint).map(Value::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        self.last += 1;
        let close = json!({"id": self.last, "method": "Browser.close"});
        let _ = self.to.write_all(format!("{close}\0").as_bytes());
        // Its profile is removed after it, not under it.
        let _ = std::io::copy(&mut self.from, &mut std::io::sink());
        let _ = self.child.wait();
    }
}
