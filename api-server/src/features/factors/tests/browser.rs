//! A real browser with an authenticator that it simulates, told over the DevTools protocol what to do.
//!
//! Needs Chromium: `TENANTRY_TEST_CHROMIUM`, or one of the usual names on the path.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
    time::timeout,
};

use super::claims;
use crate::testing::{PASSWORD, TestApp};

/// A browser starts slowly beside other tests.
const PATIENCE: Duration = Duration::from_mins(2);

const SCRIPT: &str = r"(async () => {
    const api = async (path, body, token) => {
        const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
        const answer = await fetch(`/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body ?? {}) });
        const json = await answer.json();
        if (!answer.ok) throw new Error(`${path}: ${JSON.stringify(json)}`);
        return json.data;
    };
    const { parseCreationOptionsFromJSON: creation, parseRequestOptionsFromJSON: request } = PublicKeyCredential;
    const get = async options => (await navigator.credentials.get({
        publicKey: request.call(PublicKeyCredential, options.publicKey) })).toJSON();

    const me = await api('/auth/register', { email: 'ada@acme.test', password: PASSWORD, name: 'Ada' });
    const wish = await api('/auth/passkeys/options', {}, me.accessToken);
    const made = await navigator.credentials.create({
        publicKey: creation.call(PublicKeyCredential, wish.options.publicKey) });
    const kept = await api('/auth/passkeys', { ceremony: wish.ceremony, credential: made.toJSON() }, me.accessToken);

    const alone = await api('/auth/passkeys/login/options');
    const signedIn = await api('/auth/passkeys/login', { ceremony: alone.ceremony, credential: await get(alone.options) });

    const { mfaToken } = await api('/auth/login', { email: 'ada@acme.test', password: PASSWORD });
    const second = await api('/auth/2fa/passkey/options', { mfaToken });
    const passkey = { ceremony: second.ceremony, credential: await get(second.options) };
    const verified = await api('/auth/2fa/verify', { mfaToken, passkey });
    return { codes: kept.recoveryCodes.length, alone: signedIn.accessToken, second: verified.accessToken };
})()";

struct Browser {
    process: Child,
    to: Sender,
    from: BufReader<Receiver>,
    last: u64,
    _folder: tempfile::TempDir,
}

impl Browser {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = (folder.path().join("to"), folder.path().join("from"));
        let made = Command::new("mkfifo").args([&to, &from]).status().unwrap();
        assert!(made.success());
        // Opened for both directions, so that neither side waits for the other.
        let sender = OpenOptions::new().read_write(true).open_sender(&to).unwrap();
        let receiver = OpenOptions::new().read_write(true).open_receiver(&from).unwrap();
        // The browser listens at descriptor 3 and speaks at 4.
        let line = "exec \"$0\" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                    --remote-debugging-pipe --user-data-dir=\"$1/profile\" about:blank 3<\"$1/to\" 4>\"$1/from\"";
        let process = Command::new("sh")
            .args(["-c", line])
            .arg(chromium())
            .arg(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, to: sender, from: BufReader::new(receiver), last: 0, _folder: folder }
    }

    /// One command of the protocol, and its result.
    async fn tell(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let answered = timeout(PATIENCE, async {
            self.to.write_all(format!("{message}\0").as_bytes()).await.unwrap();
            loop {
                let mut answer = vec![];
                self.from.read_until(0, &mut answer).await.unwrap();
                answer.pop();
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                // Everything else is news that nobody asked for.
                if answer["id"] == self.last {
                    assert!(answer.get("error").is_none(), "{method}: {answer}");
                    return answer["result"].clone();
                }
            }
        });
        answered.await.unwrap_or_else(|_| panic!("the browser does not answer to {method}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn chromium() -> PathBuf {
    if let Some(named) = std::env::var_os("TENANTRY_TEST_CHROMIUM") {
        return named.into();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let all = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let places = path.split(':').flat_map(|folder| all.map(|name| Path::new(folder).join(name)));
    places.into_iter().find(|place| place.exists()).unwrap_or_else(|| {
        panic!("this test needs Chromium (apt-get install chromium), or TENANTRY_TEST_CHROMIUM that names one")
    })
}

#[tokio::test]
async fn a_browser_makes_a_passkey_and_signs_in_by_it() {
    let app = TestApp::empty().await;
    let address = app.listen().await;
    let origin = format!("http://localhost:{}", address.port());
    let mut local = app.tenant("local");
    local.hostnames = vec![contract::Hostname::new("localhost").unwrap()];
    local.cors.allowed_origins = vec![origin.clone()];
    app.serve(&local);

    let mut browser = Browser::start();
    let page = browser.tell(None, "Target.createTarget", json!({ "url": "about:blank" })).await["targetId"].clone();
    let attached = browser.tell(None, "Target.attachToTarget", json!({ "targetId": page, "flatten": true })).await;
    let session = attached["sessionId"].as_str().unwrap();
    browser.tell(Some(session), "Page.enable", json!({})).await;
    // The API's own pages may do nothing; a frontend has pages of its own.
    browser.tell(Some(session), "Page.setBypassCSP", json!({ "enabled": true })).await;
    browser.tell(Some(session), "Page.navigate", json!({ "url": format!("{origin}/health") })).await;
    browser.tell(Some(session), "WebAuthn.enable", json!({})).await;
    let options = json!({
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
        "isUserVerified": true, "automaticPresenceSimulation": true,
    });
    browser.tell(Some(session), "WebAuthn.addVirtualAuthenticator", json!({ "options": options })).await;
    let script = SCRIPT.replace("PASSWORD", &format!("'{PASSWORD}'"));
    let evaluate = json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
    let done = browser.tell(Some(session), "Runtime.evaluate", evaluate).await;
    let value = &done["result"]["value"];
    assert_eq!(value["codes"], 10, "{done}");
    assert_eq!(claims(value["alone"].as_str().unwrap())["aal"], "aal2");
    assert_eq!(claims(value["second"].as_str().unwrap())["amr"][0], "pwd");
}
