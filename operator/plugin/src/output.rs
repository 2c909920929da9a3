//! What a person or a program reads: text with colours at a terminal only, or JSON and YAML.

use std::{fmt, io::IsTerminal};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::Global;

/// Lines are kept to what a small terminal shows.
pub const WIDTH: usize = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Yaml,
}

/// Where and how answers are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub format: Option<Format>,
    pub paint: Paint,
}

/// Something that has a form for people and one for programs.
pub trait Shown: Serialize {
    fn human(&self, paint: Paint) -> String;
}

impl Output {
    pub fn new(global: &Global) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { format: global.output, paint: Paint(std::io::stdout().is_terminal() && !unwanted) }
    }

    pub fn print(&self, shown: &impl Shown) -> Result<()> {
        let text = match self.format {
            None => shown.human(self.paint),
            Some(format) => structured(format, shown)?,
        };
        print(&text)
    }

    /// A sentence about what was done; programs read it as an object.
    pub fn say(&self, sentence: impl Into<String>) -> Result<()> {
        #[derive(Serialize)]
        struct Said {
            message: String,
        }
        impl Shown for Said {
            fn human(&self, _: Paint) -> String {
                format!("{}\n", self.message)
            }
        }
        self.print(&Said { message: sentence.into() })
    }
}

pub fn structured(format: Format, value: &impl Serialize) -> Result<String> {
    match format {
        Format::Json => Ok(serde_json::to_string_pretty(value)? + "\n"),
        Format::Yaml => yaml(value),
    }
}

pub fn yaml(value: &impl Serialize) -> Result<String> {
    serde_saphyr::to_string(&serde_json::to_value(value)?).context("this cannot be written as YAML")
}

/// The reader went away (`| head`): what follows output without an end ends with it, and nothing has failed.
#[derive(Debug)]
pub struct NobodyReads;

impl fmt::Display for NobodyReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for NobodyReads {}

/// To standard output; [`NobodyReads`] where the reader went away.
pub fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        written => Ok(written?),
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: impl fmt::Display) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    pub fn good(self, text: impl fmt::Display) -> String {
        self.with("32", text)
    }

    pub fn bad(self, text: impl fmt::Display) -> String {
        self.with("31", text)
    }

    pub fn warn(self, text: impl fmt::Display) -> String {
        self.with("33", text)
    }

    pub fn head(self, text: impl fmt::Display) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: impl fmt::Display) -> String {
        self.with("2", text)
    }

    pub fn verdict(self, well: bool, text: impl fmt::Display) -> String {
        if well { self.good(text) } else { self.bad(text) }
    }
}

/// Words over lines of at most [`WIDTH`], each behind `indent` blanks.
pub fn wrapped(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent).max(20);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let blank = " ".repeat(indent);
    lines.into_iter().fold(String::new(), |text, line| text + &blank + &line + "\n")
}

/// An error as a sentence with its cure, where there is one.
pub struct Failure<'a>(pub &'a anyhow::Error);

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        let mut cure = None;
        for cause in self.0.chain() {
            match cause.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) => {
                    said.push(status.message.clone());
                    cure = if status.is_forbidden() {
                        Some("ask for the ClusterRole view here, edit to change Tenants, admin to change the Platform")
                    } else if status.code == 401 {
                        Some("sign in to the cluster again: kubectl get --raw /version shows whether it lets you in")
                    } else {
                        None
                    };
                    break;
                }
                Some(kube::Error::Service(_) | kube::Error::HyperError(_)) => {
                    cure = Some("see whether kubectl version reaches it, and which one --context names");
                    let mut source: Option<&dyn std::error::Error> = Some(cause);
                    let mut last = cause.to_string();
                    while let Some(error) = source {
                        last = error.to_string();
                        source = error.source();
                    }
                    said.push(format!("the Kubernetes API does not answer: {last}"));
                    break;
                }
                _ => {
                    let text = cause.to_string();
                    // Some errors repeat their source in their own words.
                    if said.last().is_none_or(|known: &String| !known.ends_with(&text)) {
                        said.push(text);
                    }
                }
            }
        }
        f.write_str(&said.join(": "))?;
        cure.map_or(Ok(()), |cure| write!(f, " ({cure})"))
    }
}

/// `3m`, `2h`, `5d`, as kubectl says ages.
pub fn age(since: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns under their heads, as wide as they need.
pub fn table(heads: &[&str], rows: &[Vec<String>], indent: usize) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<_> = heads.iter().map(|head| width(head)).collect();
    for row in rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = (*most).max(width(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = " ".repeat(indent);
        for (cell, most) in cells.zip(&widths) {
            line += cell;
            line += &" ".repeat(most - width(cell) + 3);
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut heads.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_within_the_width_and_behind_the_indent() {
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= WIDTH && line.starts_with("    w")));
    }

    #[test]
    fn an_error_is_a_sentence_with_its_cure() {
        let status =
            kube::core::Status::failure("tenants is forbidden: User bob cannot list", "Forbidden").with_code(403);
        let error = anyhow::Error::from(kube::Error::Api(status.boxed())).context("cannot list Tenants");
        assert_eq!(
            Failure(&error).to_string(),
            "cannot list Tenants: tenants is forbidden: User bob cannot list (ask for the ClusterRole view \
             here, edit to change Tenants, admin to change the Platform)"
        );
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert_eq!(Paint(false).good("ok"), "ok");
        assert_eq!(Paint(true).good("ok"), "\u{1b}[32mok\u{1b}[0m");
    }
}
