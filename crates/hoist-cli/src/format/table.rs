//! Columns set by tabs, as Go's tabwriter sets them: a cell ends at a tab, a column is a block of such cells on
//! consecutive lines, and each column is as wide as its widest cell plus padding.

use std::fmt::Write;

use super::text::display_width;

#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) min_width: usize,
    pub(crate) padding: usize,
}

/// What Docker's lists use.
pub(crate) const LIST: Layout = Layout { min_width: 10, padding: 3 };

/// Aligns the tab-separated cells of `text`.
pub(crate) fn align(text: &str, layout: Layout) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    set_widths(&lines, &mut widths, 0, lines.len(), 0, layout);
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        let last = cells.len() - 1;
        for (cell, &width) in cells.iter().zip(widths).take(last) {
            let gap = width.saturating_sub(display_width(cell));
            let _ = write!(out, "{cell}{:gap$}", "");
        }
        out.push_str(cells[last]);
        out.push('\n');
    }
    out
}

/// Sets the widths of column `column` for the lines `from..to`, then of the columns right of it.
fn set_widths(lines: &[Vec<&str>], widths: &mut [Vec<usize>], from: usize, to: usize, column: usize, layout: Layout) {
    let mut line = from;
    while line < to {
        // the last cell of a line ends at no tab and belongs to no column
        if column + 1 >= lines[line].len() {
            line += 1;
            continue;
        }
        let begin = line;
        let mut width = layout.min_width;
        while line < to && column + 1 < lines[line].len() {
            let cell = display_width(lines[line][column]);
            width = width.max(cell + layout.padding);
            line += 1;
        }
        for line_widths in &mut widths[begin..line] {
            line_widths[column] = width;
        }
        set_widths(lines, widths, begin, line, column + 1, layout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_three() {
        let text = "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox:latest\tx\n";
        let aligned = "CONTAINER ID   IMAGE            NAMES\n0123456789ab   busybox:latest   x\n";
        assert_eq!(align(text, LIST), aligned);
    }

    #[test]
    fn short_columns_keep_their_least_width_and_empty_cells_their_place() {
        assert_eq!(align("PORTS\tNAMES\n\ta\n", LIST), "PORTS     NAMES\n          a\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_a_column() {
        assert_eq!(align("a\tb\nx\nlonger than ten\tc\n", LIST), "a         b\nx\nlonger than ten   c\n");
    }
}
