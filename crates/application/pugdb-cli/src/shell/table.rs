//! A table for a person at a terminal: columns, cut off where the terminal ends.

use crate::interrupt::Interrupt;
use crate::outcome::Failure;
use crate::output::Answer;

/// When the terminal does not say how wide it is.
const WIDTH_DEFAULT: usize = 100;
/// A key takes this part of the line at most.
const FIRST_PART: usize = 2;

/// Prints two columns. A terminal takes a long table slowly, so Ctrl-C is looked for between the lines.
pub(super) fn print(
    stdout: &mut Answer,
    heads: [&str; 2],
    rows: &[[String; 2]],
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    if rows.is_empty() {
        return stdout.line("(nothing)");
    }
    for line in lines(heads, rows, terminal_width()) {
        interrupt.check()?;
        stdout.line(&line)?;
    }
    Ok(())
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(WIDTH_DEFAULT, |size| usize::from(size.ws_col)).max(20)
}

/// Pure: the lines of the table.
fn lines(heads: [&str; 2], rows: &[[String; 2]], width: usize) -> Vec<String> {
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let first = widest(0).min(width / FIRST_PART);
    let second = widest(1).min(width.saturating_sub(first + 3));
    let line = |one: &str, two: &str, middle: &str| {
        let (one, two) = (cut(one, first), cut(two, second));
        let padding = " ".repeat(first - one.chars().count());
        if second == 0 { one } else { format!("{one}{padding}{middle}{two}").trim_end().to_owned() }
    };
    let rule = line(&"─".repeat(first), &"─".repeat(second), "─┼─");
    let mut lines = vec![line(heads[0], heads[1], " │ "), rule];
    lines.extend(rows.iter().map(|[one, two]| line(one, two, " │ ")));
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Exit;

    #[test]
    fn ctrl_c_stops_a_table() {
        let rows = [["a", "1"]].map(|row| row.map(str::to_owned));
        let stopped = print(&mut Answer::new(), ["key", "value"], &rows, &Interrupt::that_came());
        assert_eq!(stopped.unwrap_err().exit, Exit::Interrupted);
    }

    #[test]
    fn columns_are_aligned_and_cut_off() {
        let rows =
            [["a", "1"], ["größe", "a long value that does not fit"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            lines(["key", "value"], &rows, 24),
            ["key   │ value", "──────┼─────────────────", "a     │ 1", "größe │ a long value th…"]
        );
        let keys = [["only".to_owned(), String::new()]];
        assert_eq!(lines(["key", ""], &keys, 24), ["key", "────", "only"]);
    }
}
