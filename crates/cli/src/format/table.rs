//! Go's `text/tabwriter`, as docker's tables use it.
//!
//! A cell ends with a tab; text after a line's last tab belongs to no column. A column is a run of
//! consecutive lines that have a cell at that place; it is as wide as its widest cell plus padding.

/// docker's settings for lists: at least 10 wide, 3 spaces between.
pub(crate) fn align(text: &str) -> String {
    align_with(text, 10, 3)
}

/// Aligns the tab-separated lines of `text`.
pub(crate) fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|l| vec![0; l.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let run = lines[start..].iter().take_while(|l| l.len() > column + 1).count();
            let block = &lines[start..start + run];
            let widest = block.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
            for widths in &mut widths[start..start + run] {
                // An all-empty column has no width at all.
                widths[column] =
                    if widest == 0 && min_width == 0 { 0 } else { (widest + padding).max(min_width) };
            }
            start += run.max(1);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        out.push_str(cells.last().unwrap_or(&""));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_docker_s() {
        assert_eq!(
            align("CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbb\tx\n"),
            "CONTAINER ID   IMAGE     NAMES\n0123456789ab   bb        x\n"
        );
    }

    #[test]
    fn a_column_ends_where_a_line_has_no_such_cell() {
        assert_eq!(align_with("aaaaaa\tb\nx\na\tb\n", 0, 1), "aaaaaa b\nx\na b\n");
    }

    #[test]
    fn width_counts_characters() {
        assert_eq!(align_with("ü…\tb\nabc\tc\n", 0, 1), "ü…  b\nabc c\n");
    }
}
