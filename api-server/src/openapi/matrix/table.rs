//! The table as it is written, and as it is read.

/// What one operation answers to whom.
pub struct Row {
    pub operation: String,
    pub body: String,
    pub nobody: u16,
    /// By role, on what is another's.
    pub others: [u16; 6],
    /// By role, on their own; `None` where there is no difference.
    pub own: Option<[u16; 6]>,
    pub elsewhere: u16,
}

pub fn rows() -> Vec<Row> {
    let lines =
        include_str!("rows.txt").lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            row(line).unwrap_or_else(|| panic!("this row has not the form that the head of rows.txt shows: {line}"))
        })
        .collect()
}

fn row(line: &str) -> Option<Row> {
    let [operation, body, nobody, others, own, elsewhere] =
        line.split('|').map(str::trim).collect::<Vec<_>>().try_into().ok()?;
    Some(Row {
        operation: operation.to_owned(),
        body: body.to_owned(),
        nobody: nobody.parse().ok()?,
        others: six(others)?,
        own: if own == "=" { None } else { Some(six(own)?) },
        elsewhere: elsewhere.parse().ok()?,
    })
}

fn six(cells: &str) -> Option<[u16; 6]> {
    match cells.strip_prefix('*') {
        Some(all) => Some([all.parse().ok()?; 6]),
        None => cells.split_whitespace().map(|cell| cell.parse().ok()).collect::<Option<Vec<_>>>()?.try_into().ok(),
    }
}
