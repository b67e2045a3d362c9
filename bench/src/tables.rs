//! Tables in Markdown from raw output: medians of the rounds, and how each store compares with PugDB.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::record::{Line, Row};

const PUGDB: &str = "pugdb";
/// What the yardstick takes itself stands under this name. It is no store, so it is compared with none.
pub const YARDSTICK: &str = "yardstick";

/// The order of rows and columns is that of the raw output.
fn in_order<'a, T: PartialEq>(values: impl Iterator<Item = T> + 'a) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// A number with three digits or so.
fn short(number: f64) -> String {
    match number {
        large if large >= 1e6 => format!("{:.2}M", large / 1e6),
        large if large >= 1e5 => format!("{:.0}k", large / 1e3),
        large if large >= 1e4 => format!("{:.1}k", large / 1e3),
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The rows of one table: what names a row, what names a column, and the figure.
struct Table<'a> {
    title: String,
    note: &'a str,
    rows: Vec<String>,
    columns: Vec<String>,
    figures: BTreeMap<(String, String), Vec<f64>>,
    /// How many times PugDB's figure each is, behind it.
    ratios: bool,
}

impl Table<'_> {
    fn median(&self, row: &str, column: &str) -> Option<f64> {
        median(self.figures.get(&(row.to_owned(), column.to_owned()))?.clone())
    }

    fn markdown(&self) -> String {
        let mut text = format!("{}\n\n| |", self.title);
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        text.push_str("\n|---|");
        text.push_str(&"---:|".repeat(self.columns.len()));
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "| {row} |");
            let own = self.median(row, PUGDB);
            for column in &self.columns {
                let cell = match (self.median(row, column), own) {
                    (None, _) => "–".to_owned(),
                    (Some(figure), Some(own))
                        if self.ratios && own > 0.0 && column != PUGDB && column != YARDSTICK =>
                    {
                        format!("{} ({:.2}x)", short(figure), figure / own)
                    }
                    (Some(figure), _) => short(figure),
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        if !self.note.is_empty() {
            let _ = write!(text, "\n{}\n", self.note);
        }
        text
    }
}

fn table<'a>(
    title: impl Into<String>,
    note: &'a str,
    rows: &[&Row],
    name: impl Fn(&Row) -> String,
    figure: impl Fn(&Row) -> f64,
    ratios: bool,
) -> Table<'a> {
    let mut figures: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for row in rows {
        figures.entry((name(row), row.store.clone())).or_default().push(figure(row));
    }
    let mut columns = in_order(rows.iter().map(|row| row.store.clone()));
    // PugDB first, whichever came first in the run.
    columns.sort_by_key(|column| column != PUGDB);
    Table {
        title: title.into(),
        note,
        rows: in_order(rows.iter().map(|row| name(row))),
        columns,
        figures,
        ratios,
    }
}

fn rows(lines: &[Line], wanted: impl Fn(&Row) -> bool) -> Vec<&Row> {
    lines
        .iter()
        .filter_map(|line| match line {
            Line::Row(row) if wanted(row) => Some(row),
            _ => None,
        })
        .collect()
}

/// What the figures belong to, in words.
fn head(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        if let Line::About(about) = line {
            let _ = writeln!(text, "`{}` on {}, {}.", about.command, about.machine, about.file_system);
            let _ = writeln!(text, "{}.", about.versions);
        }
    }
    let loads: Vec<f64> = rows(lines, |_| true).iter().map(|row| row.load_average).collect();
    let most = loads.iter().copied().fold(0.0, f64::max);
    if let Some(median) = median(loads) {
        let _ = writeln!(text, "Load average while it ran: {median:.1} in the middle, {most:.1} at most.");
    }
    text
}

/// The tables of `embedded`.
#[must_use]
pub fn embedded(lines: &[Line]) -> String {
    let mut text = head(lines);
    let os = rows(lines, |row| row.durability == "os");
    let of_stores = rows(lines, |row| row.durability == "os" && row.store != YARDSTICK);
    // More clients than one are named.
    let workload = |row: &Row| match row.threads {
        1 => row.workload.clone(),
        threads => format!("{}, {}", row.workload, many(threads, "client")),
    };
    let mut parts = Vec::new();
    if !os.is_empty() {
        let cpu = |row: &Row| row.cpu_us_per_op;
        parts.push(
            table("CPU microseconds an operation (and how many times PugDB's)", "", &os, workload, cpu, true)
                .markdown(),
        );
        let speed = |row: &Row| row.ops_per_second;
        parts.push(
            table("Operations a second, by the wall", "", &of_stores, workload, speed, true).markdown(),
        );
        let slow = |row: &Row| row.p99_us;
        parts.push(
            table("99 of 100 were faster than, microseconds", "", &of_stores, workload, slow, false)
                .markdown(),
        );
        let slowest = |row: &Row| row.max_us / 1e3;
        parts.push(table("The slowest, milliseconds", "", &of_stores, workload, slowest, false).markdown());
        let judged =
            rows(lines, |row| row.durability == "os" && row.store != YARDSTICK && row.calm_max_us.is_some());
        if !judged.is_empty() {
            let calm = |row: &Row| row.calm_max_us.unwrap_or(row.max_us) / 1e3;
            let title = "The slowest while the machine did not hold up a control thread too, milliseconds";
            parts.push(table(title, "", &judged, workload, calm, false).markdown());
            let control = |row: &Row| row.control_max_us.unwrap_or(f64::NAN) / 1e3;
            let title = "How late the control thread was at most, milliseconds";
            parts.push(table(title, "", &judged, workload, control, false).markdown());
        }
    }
    let sync = rows(lines, |row| row.durability == "sync");
    if !sync.is_empty() {
        let threads = |row: &Row| many(row.threads, "client");
        let speed = |row: &Row| row.ops_per_second;
        parts.push(table("Synced commits a second", "", &sync, threads, speed, true).markdown());
        let cpu = |row: &Row| row.cpu_us_per_op;
        parts.push(table("CPU microseconds a synced commit", "", &sync, threads, cpu, true).markdown());
    }
    parts.push(ends(lines));
    for part in parts {
        let _ = write!(text, "\n{part}");
    }
    for line in lines {
        if let Line::Failed { store, durability, round, reason } = line {
            let _ = write!(text, "\nNot measured: {store}, {durability}, round {round}: {reason}.\n");
        }
    }
    text
}

fn ends(lines: &[Line]) -> String {
    let mut figures: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let mut columns = Vec::new();
    for line in lines {
        let Line::End(end) = line else { continue };
        if end.durability != "os" {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few megabytes more or less")]
        for (name, bytes) in [
            ("disk, MB", end.disk_bytes),
            ("memory at most, MB", end.peak_memory_bytes),
            ("memory in the end, MB", end.memory_bytes),
            ("written, MB", end.written_bytes),
        ] {
            figures.entry((name.to_owned(), end.store.clone())).or_default().push(bytes as f64 / 1e6);
        }
        columns.push(end.store.clone());
    }
    let mut columns = in_order(columns.into_iter());
    columns.sort_by_key(|column| column != PUGDB);
    let rows = in_order(figures.keys().map(|(row, _)| row.clone()));
    Table { title: "At the end".into(), note: "", rows, columns, figures, ratios: true }.markdown()
}

/// The tables of `sockets`.
#[must_use]
pub fn sockets(lines: &[Line]) -> String {
    let mut text = head(lines);
    let all = rows(lines, |_| true);
    let name =
        |row: &Row| format!("{}, {}, depth {}", row.workload, many(row.threads, "connection"), row.batch);
    for durability in in_order(all.iter().map(|row| row.durability.clone())) {
        let of_level = rows(lines, |row| row.durability == durability);
        let speed = |row: &Row| row.ops_per_second;
        let title = format!("Operations a second, durability {durability}");
        let _ = write!(text, "\n{}", table(title, "", &of_level, name, speed, true).markdown());
        let cpu = |row: &Row| row.server_cpu_us_per_op.unwrap_or(f64::NAN);
        let title = format!("The server's CPU microseconds an operation, durability {durability}");
        let _ = write!(text, "\n{}", table(title, "", &of_level, name, cpu, true).markdown());
        let slow = |row: &Row| row.p99_us;
        let title = format!("99 of 100 were faster than, microseconds, durability {durability}");
        let _ = write!(text, "\n{}", table(title, "", &of_level, name, slow, false).markdown());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(store: &str, round: u32, cpu_us_per_op: f64) -> Line {
        let json = format!(
            r#"{{"kind":"row","store":"{store}","durability":"os","round":{round},"workload":"C","ops_per_second":1.0,
            "cpu_us_per_op":{cpu_us_per_op},"p50_us":1.0,"p99_us":1.0,"p999_us":1.0,"max_us":1.0,"operations":1,
            "records":1,"value_bytes":100,"threads":1,"batch":1,"checked":1,"misses":0,"load_average":0.5}}"#
        );
        serde_json::from_str(&json).expect("it is a row")
    }

    #[test]
    fn a_cell_is_the_median_and_how_many_times_pugdbs() {
        let lines =
            [row("rocksdb", 0, 3.0), row("pugdb", 0, 2.0), row("rocksdb", 1, 9.0), row("rocksdb", 2, 4.0)];
        let text = embedded(&lines);
        assert!(text.contains("| | pugdb | rocksdb |"), "{text}");
        assert!(text.contains("| C | 2.00 | 4.00 (2.00x) |"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        let told = [0.456, 12.34, 345.6, 12_345.0, 123_456.0, 2_345_678.0].map(short);
        assert_eq!(told, ["0.46", "12.3", "346", "12.3k", "123k", "2.35M"]);
    }
}
