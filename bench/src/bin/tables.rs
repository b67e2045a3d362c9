//! Renders raw output as tables in Markdown: `tables results/embedded.jsonl`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pugdb_bench::record::Line;
use pugdb_bench::tables;

/// Renders raw output as tables in Markdown.
#[derive(Parser)]
struct Arguments {
    /// The raw output of `embedded` or `sockets`
    file: PathBuf,
}

fn main() -> ExitCode {
    match render(&Arguments::parse()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tables: {error}");
            ExitCode::FAILURE
        }
    }
}

fn render(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(&arguments.file)?;
    let lines: Vec<Line> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let over_sockets =
        lines.iter().any(|line| matches!(line, Line::Row(row) if row.server_cpu_us_per_op.is_some()));
    Ok(if over_sockets { tables::sockets(&lines) } else { tables::embedded(&lines) })
}
