//! The table "When something is gone" of the README, cell by cell: each is read there, brought about, and compared.

pub mod proxy;
mod world;

use self::{
    proxy::Fault,
    world::{Gone, World},
};

/// The rows of the table: a name, and a column for each of [`Gone`].
fn table() -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let text = include_str!("../../README.md");
    let (_, rest) = text.split_once("<!-- dependencies -->").expect("the README has the table");
    let (table, _) = rest.split_once("<!-- /dependencies -->").expect("the table ends");
    let cells =
        |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = table.trim().lines().map(cells);
    let head = lines.next().unwrap().into_iter().skip(1).collect();
    let rows = lines.skip(1).map(|mut row| (row.remove(0), row)).collect();
    (head, rows)
}

/// Everything that the table says of one dependency, and that it comes back without a restart.
async fn column(gone: Gone) {
    let (head, rows) = table();
    let at = head.iter().position(|name| name == gone.name()).unwrap_or_else(|| panic!("no column {}", gone.name()));
    let mut wrong = vec![];
    for fault in gone.faults() {
        let mut world = World::new().await;
        let well = world.observe("`GET /auth/me`").await;
        assert_eq!(well, "200", "before anything is gone");
        world.lose(gone, *fault).await;
        for (request, cells) in &rows {
            let seen = world.observe(request).await;
            if seen != cells[at] {
                wrong.push(format!(
                    "{} {fault:?}: {request}: the README says {:?}, and it is {seen:?}",
                    gone.name(),
                    cells[at]
                ));
            }
        }
        world.lose(gone, Fault::None).await;
        world.recovers().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn without_postgresql() {
    column(Gone::Postgres).await;
}

#[tokio::test]
async fn without_redis() {
    column(Gone::Redis).await;
}

#[tokio::test]
async fn without_the_kubernetes_api() {
    column(Gone::Kubernetes).await;
}

#[tokio::test]
async fn without_the_payment_provider() {
    column(Gone::Provider).await;
}

/// No operator runs here: what is observed is what holds without it.
#[tokio::test]
async fn without_the_operator() {
    column(Gone::Operator).await;
}

#[tokio::test]
async fn without_the_mail_server() {
    column(Gone::Mail).await;
}

#[test]
fn every_column_is_tested() {
    let (head, rows) = table();
    assert_eq!(head, Gone::ALL.map(Gone::name));
    assert!(rows.iter().all(|(request, cells)| cells.len() == head.len() && World::knows(request)), "{rows:?}");
    assert_eq!(rows.len(), World::REQUESTS.len(), "every request that can be observed has its row");
}
