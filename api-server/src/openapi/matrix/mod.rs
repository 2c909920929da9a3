//! The authorisation matrix: role × operation × own or another's × tenant × state of the credential, against
//! [`rows.txt`](rows.txt). An operation without a row fails the test; so does a row whose cells are not what the router answers.

mod people;
mod table;

use std::collections::BTreeMap;

use http::StatusCode;

use self::{
    people::{Objects, Person, World},
    table::{Row, rows},
};
use super::tests::{document, operations};
use crate::testing::{Answer, seconds};

/// The roles in the order of the table's columns.
const ROLES: [&str; 6] = ["GUEST", "USER", "CUSTOMER", "VENDOR", "SUPPORT", "ADMIN"];
/// Operations that every host has, whatever its tenant's state.
const EVERYWHERE: [&str; 2] = ["get_health", "receive_stripe_webhook"];

/// What differs from the table, so that all of it is told at once: by what was answered, the cells that were answered so.
#[derive(Default)]
struct Findings {
    cells: usize,
    wrong: BTreeMap<String, Vec<String>>,
}

impl Findings {
    fn compare(&mut self, row: &Row, cell: String, expected: u16, answer: &Answer) {
        self.cells += 1;
        if answer.status.as_u16() != expected {
            let text: String = answer.text.chars().take(160).collect();
            let what = format!("{} gives {} and not {expected}: {text}\n    as", row.operation, answer.status.as_u16());
            self.wrong.entry(what).or_default().push(cell);
        }
    }

    fn tell(self) {
        println!("{} cells", self.cells);
        let wrong: Vec<_> = self.wrong.iter().map(|(what, cells)| format!("{what} {}", cells.join(", "))).collect();
        assert!(wrong.is_empty(), "of {} cells:\n{}", self.cells, wrong.join("\n"));
    }
}

#[test]
fn every_operation_has_a_row_and_every_row_an_operation() {
    let (rows, all) = (rows(), operations(&document()));
    let ids: Vec<_> = all.iter().map(|(_, _, operation)| operation["operationId"].as_str().unwrap()).collect();
    let missing: Vec<_> = ids.iter().filter(|id| rows.iter().all(|row| row.operation != **id)).collect();
    assert!(
        missing.is_empty(),
        "no row for {missing:?}: say who may call it in api-server/src/openapi/matrix/rows.txt, one line for each, such as\n\
         {:<23} |  | 401 | 403 403 403 403 403 200 | = | 404\n(its head explains the columns)",
        missing[0]
    );
    for row in &rows {
        assert!(ids.contains(&row.operation.as_str()), "{} is no operation: take its row out", row.operation);
        assert_eq!(rows.iter().filter(|other| other.operation == row.operation).count(), 1, "{} twice", row.operation);
    }
}

#[tokio::test]
async fn every_cell_of_the_matrix_is_as_the_table_says() {
    let world = World::new().await;
    let mut found = Findings::default();
    for row in &rows() {
        let nobody = world.call(row, "acme.test", None, &world.objects_of_another().await).await;
        found.compare(row, "nobody".into(), row.nobody, &nobody);
        for (at, role) in ROLES.iter().enumerate() {
            let (person, other) = (world.person(role).await, world.objects_of_another().await);
            let answer = world.call(row, "acme.test", Some(&person), &other).await;
            found.compare(row, format!("{role} on another's"), row.others[at], &answer);
            if let Some(own) = row.own {
                let person = world.person(role).await;
                let answer = world.call(row, "acme.test", Some(&person), &person.objects).await;
                found.compare(row, format!("{role} on their own"), own[at], &answer);
            }
        }
        let machine = world.machine_of(&world.person("ADMIN").await).await;
        let expected = match row.nobody {
            401 if world.takes_keys(row) => row.others[5],
            401 => 403,
            public => public,
        };
        let answer = world.call(row, "acme.test", Some(&machine), &world.objects_of_another().await).await;
        found.compare(row, "key of an ADMIN".into(), expected, &answer);
        let stranger = world.person_at("beta", "ADMIN").await;
        let answer = world.call(row, "beta.test", Some(&stranger), &world.objects_of_another().await).await;
        found.compare(row, "ADMIN elsewhere".into(), row.elsewhere, &answer);
    }
    found.tell();
}

#[tokio::test]
async fn a_credential_that_does_not_count_is_worth_as_much_as_none() {
    let world = World::new().await;
    let mut found = Findings::default();
    let objects = world.objects_of_another().await;
    let mut people = vec![];
    for role in ROLES {
        people.push((format!("banned {role}"), world.banned(role).await));
        people.push((format!("{role} of an ended session"), world.signed_out(role).await));
        people.push((format!("{role} of another tenant"), world.person_at("beta", role).await));
    }
    let (banned, owner) = (world.person("ADMIN").await, world.person("ADMIN").await);
    let (of_banned, revoked) = (world.machine_of(&banned).await, world.machine_of(&owner).await);
    world.ban(&banned).await;
    world.revoke(&revoked).await;
    people.extend([("key of a banned ADMIN".to_owned(), of_banned), ("revoked key of an ADMIN".to_owned(), revoked)]);
    let soon_expired: Vec<_> = futures::future::join_all(ROLES.iter().map(|role| world.person(role))).await;
    // Past the leeway for clocks that differ.
    world.app.clock.advance(seconds(900 + 31));
    people
        .extend(ROLES.iter().zip(soon_expired).map(|(role, person)| (format!("{role} with an expired token"), person)));
    for row in &rows() {
        for (who, person) in &people {
            let answer = world.call(row, "acme.test", Some(person), &objects).await;
            found.compare(row, who.clone(), row.nobody, &answer);
        }
    }
    found.tell();
}

#[tokio::test]
async fn a_suspended_tenant_answers_nobody() {
    let world = World::new().await;
    let mut found = Findings::default();
    let objects = world.objects_of_another().await;
    let people: Vec<Person> = futures::future::join_all(ROLES.iter().map(|role| world.person(role))).await;
    world.suspend("acme");
    for row in rows().iter().filter(|row| !EVERYWHERE.contains(&row.operation.as_str())) {
        for (role, person) in ROLES.iter().zip(&people) {
            let answer = world.call(row, "acme.test", Some(person), &objects).await;
            found.compare(row, format!("{role} of a suspended tenant"), StatusCode::FORBIDDEN.as_u16(), &answer);
        }
    }
    found.tell();
}

impl Objects {
    /// The path with this one's ids in the place of its parameters.
    fn fill(&self, path: &str) -> String {
        let id = match path {
            _ if path.contains("/users/") => self.user,
            _ if path.contains("/api-keys/") => self.api_key,
            _ if path.contains("/sessions/") => self.session,
            _ if path.contains("/payments/") => self.payment,
            _ => uuid::Uuid::now_v7(),
        };
        let path = path
            .replace("{id}", &id.to_string())
            .replace("{tenant}", "acme")
            .replace("{provider}", "corp")
            .replace("{role}", "VENDOR");
        assert!(!path.contains('{'), "{path}: say in openapi/matrix/mod.rs what its parameter stands for");
        path
    }
}
