//! The only printer: results on stdout, everything else on stderr, colours and progress on terminals only.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use xlac_ir::diag::{Diagnostic, Severity};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Errors only.
    Quiet,
    /// What the user should know.
    Normal,
    /// What the user could want to know.
    Verbose,
}

/// Prints.
pub struct Ui {
    /// How much is told.
    pub level: Level,
    bar: Mutex<Option<ProgressBar>>,
    phase: Mutex<usize>,
}

impl Ui {
    /// Tells as much as `level`.
    pub fn new(level: Level) -> Ui { Ui { level, bar: Mutex::new(None), phase: Mutex::new(0) } }

    /// True if notes are read by a person.
    pub fn is_terminal(&self) -> bool { std::io::stderr().is_terminal() }

    /// A diagnostic, as cargo and rustc show them.
    pub fn diagnostic(&self, d: &Diagnostic) {
        if self.level == Level::Quiet && d.severity != Severity::Error {
            return;
        }
        let (style, word) = match d.severity {
            Severity::Error => (RED, "error"),
            Severity::Warning => (YELLOW, "warning"),
            Severity::Note => (CYAN, "note"),
        };
        let mut text = format!("{style}{word}[{}]{style:#}{BOLD}:{BOLD:#} {d}", d.code);
        if let Some(help) = &d.help {
            text.push_str(&format!("\n  {GREEN}help:{GREEN:#} {help}"));
        }
        self.line(&text);
    }

    /// Diagnostics, those that are equal but for the node grouped after the first few.
    pub fn diagnostics(&self, all: &[Diagnostic]) {
        const SHOWN: usize = 20;
        all.iter().take(SHOWN).for_each(|d| self.diagnostic(d));
        if all.len() > SHOWN {
            self.line(&format!("{BOLD}... and {} more{BOLD:#}; `xlac check` lists all", all.len() - SHOWN));
        }
        if let Some(first) = all.iter().find(|d| d.severity == Severity::Error) {
            self.detail(&format!("`xlac explain {}` tells more", first.code));
        }
    }

    /// A line for the user: status, warnings.
    pub fn note(&self, text: &str) {
        if self.level > Level::Quiet {
            self.line(text);
        }
    }

    /// A line with a green word before it, as cargo shows its status.
    pub fn status(&self, word: &str, text: &str) { self.note(&format!("{GREEN}{word:>10}{GREEN:#} {text}")); }

    /// A line that is shown to people at a terminal, or if asked for.
    pub fn hint(&self, text: &str) {
        if self.level == Level::Verbose || self.level == Level::Normal && self.is_terminal() {
            self.line(&format!("{DIM}{text}{DIM:#}"));
        }
    }

    /// A line that is shown only if asked for.
    pub fn detail(&self, text: &str) {
        if self.level == Level::Verbose {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
        self.finish();
        // A closed stderr is no reason to stop.
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// The result, on stdout.
    pub fn result(&self, text: &str) {
        self.finish();
        let mut out = anstream::stdout();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        // A reader that went away, such as `head`, is no error.
        let _ = write!(out, "{text}{end}").and_then(|()| out.flush());
    }

    /// Raw bytes as the result, without looking for colours.
    pub fn raw(&self, text: &str) {
        self.finish();
        let mut out = std::io::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// What is being done: a line with a number at a terminal that is replaced by the next.
    pub fn phase(&self, text: &str) {
        if self.level == Level::Quiet {
            return;
        }
        let mut number = self.phase.lock().unwrap_or_else(|e| e.into_inner());
        *number += 1;
        if self.level == Level::Verbose {
            let _ = writeln!(anstream::stderr(), "{DIM}[{number}]{DIM:#} {text}");
        } else if self.is_terminal() {
            let mut bar = self.bar.lock().unwrap_or_else(|e| e.into_inner());
            let bar = bar.get_or_insert_with(spinner);
            bar.set_message(format!("[{number}] {text}"));
        }
    }

    /// A bar over `count` things.
    pub fn bar(&self, count: usize) -> ProgressBar {
        let hidden = self.level != Level::Normal || !self.is_terminal();
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(count as u64) };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar
    }

    /// Ends the line of [`Ui::phase`].
    pub fn finish(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(|e| e.into_inner()).take() {
            bar.finish_and_clear();
        }
    }
}

/// Something that [`crate::CompileOptions::progress`] takes.
pub fn progress(ui: &Arc<Ui>) -> crate::compile::Progress {
    let ui = Arc::clone(ui);
    Arc::new(move |text| ui.phase(text))
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

/// Text in bold.
pub fn bold(text: &str) -> String { format!("{BOLD}{text}{BOLD:#}") }

/// Text in green, or in red.
pub fn verdict(good: bool, text: &str) -> String {
    let style = if good { GREEN } else { RED };
    format!("{style}{text}{style:#}")
}

/// A table: the first column to the left, the others as told, two spaces between.
pub fn table(header: &[&str], right: &[bool], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
        cells.max().unwrap_or(0).max(header[column].chars().count())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().enumerate().map(|(i, cell)| {
            let space = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            if right[i] { format!("{space}{cell}") } else { format!("{cell}{space}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let title: Vec<String> = header.iter().map(ToString::to_string).collect();
    let mut text = format!("{BOLD}{}{BOLD:#}\n", line(&title));
    rows.iter().for_each(|r| text.push_str(&format!("{}\n", line(r))));
    text
}

/// Bytes for people: `1.5 MB`.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let rows = [vec!["a".to_string(), "10".to_string()], vec!["bcd".to_string(), "5".to_string()]];
        let text = anstream::adapter::strip_str(&table(&["name", "n"], &[false, true], &rows)).to_string();
        assert_eq!(text, "name   n\na     10\nbcd    5\n");
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!(bytes(1500), "1.5 kB");
        assert_eq!(bytes(12), "12 B");
    }
}
