use super::*;

const GOOD: &str = "
version: 1
families:
  - {name: deals, type: gauge, help: Deals., labels: [status, kind]}
  - {name: users, type: gauge, help: Users., labels: [state]}
  - {name: created_total, type: counter, help: Created., labels: {status: {enum: public.dealstatus}}}
  - {name: price, type: histogram, help: Prices., buckets: [1, 2.5]}
events:
  - name: deal_created
    table: public.deals
    on: insert
    when: n.price > 0
    emit:
      - {family: created_total, labels: {status: n.status}}
      - {family: price, value: n.price}
stocks:
  - {table: public.deals, by: status, created: created_total}
queries:
  - name: deals
    sql: SELECT status, count(*) AS deals FROM deals GROUP BY 1;
    timeout: 5s
    emit:
      - {family: deals, value: deals, labels: [status], static_labels: {kind: car}}
  - name: users
    sql_file: users.sql
    emit:
      - {family: users, pivot: {label: state, columns: [active, inactive]}}
";

fn read(text: &str) -> Result<Definition, ConfigError> {
    parse(text, "metrics.yml", |file| Ok(format!("SELECT 1 AS active, 2 AS inactive -- {file}")))
}

#[test]
fn a_good_definition() {
    let definition = read(GOOD).unwrap();
    assert_eq!(definition.database.name, "main");
    let [deals, users] = &definition.queries[..] else { panic!("{definition:?}") };
    assert_eq!(deals.sql, "SELECT status, count(*) AS deals FROM deals GROUP BY 1");
    assert_eq!((deals.timeout.as_secs(), deals.max_rows), (5, 500));
    assert_eq!(deals.emit[0].static_labels, [("kind".to_owned(), "car".to_owned())]);
    assert!(users.sql.ends_with("users.sql"));
    let [created] = &definition.events[..] else { panic!("{definition:?}") };
    assert_eq!((created.table.1.as_str(), created.key.as_str()), ("deals", "id"));
    assert_eq!(created.emit[0].labels, ["n.status"]);
    assert_eq!((created.emit[0].value.as_ref(), created.emit[1].value.as_deref()), (None, Some("n.price")));
    assert_eq!(definition.hash.len(), 16);
    assert_ne!(definition.hash, read(&GOOD.replace("Users.", "Accounts.")).unwrap().hash);
}

#[test]
fn mistakes_are_shown_with_their_place() {
    for (old, new, expected) in [
        ("version: 1", "version: 2", &["metrics.yml:2:", "version 1"][..]),
        ("name: users, type", "name: deals, type", &["metrics.yml:5:", "family deals stands twice"]),
        ("- name: users\n", "- name: deals\n", &["metrics.yml:24:", "query \"deals\" stands twice"]),
        ("family: users", "family: uesrs", &["metrics.yml:27:", "\"uesrs\" is not declared"]),
        ("type: gauge, help: Users", "type: counter, help: Users", &["_total"]),
        ("name: users, type", "name: process_x, type", &["process_"]),
        ("name: users, type", "name: us-ers, type", &["us-ers"]),
        (", labels: [status]", "", &["deals is declared with labels", "status"]),
        ("GROUP BY 1;", "GROUP BY 1; DROP TABLE deals", &["more than one statement"]),
        ("timeout: 5s", "timeout: 5", &["duration"]),
        ("timeout: 5s", "refresh: 0s", &["metrics.yml:21:", "never rest"]),
        ("timeout: 5s", "timeuot: 5s", &["timeuot", "metrics.yml:21:"]),
        ("value: deals, ", "", &["either a value column or a pivot"]),
        ("name: users, type", "name: users_count, type", &["metrics.yml:5:", "_count"]),
        ("help: Users.", "help: ''", &["users needs a help text"]),
        ("help: Users.", "help: Users., unit: seconds", &["unit of users"]),
        ("labels: [state]}", "labels: [le]}", &["\"le\"", "reserved"]),
        ("labels: [state]}", "labels: [__x]}", &["__x"]),
        ("labels: [state]}", "labels: [state, state]}", &["stands twice"]),
        ("labels: [state]}", "labels: {state: {max: 0}}}", &["label state of users", "at least 1"]),
        (
            "labels: [state]}",
            "labels: {state: {most: 3}}}",
            &["metrics.yml:5:", "{values, enum, max, other}"],
        ),
        ("labels: [status, kind]", "init: zero, labels: [status, kind]", &["init: zero", "\"status\""]),
        ("labels: [status], static", "labels: [status, kind], static", &["each is given once"]),
        ("type: histogram, help: Prices., buckets: [1, 2.5]", "type: histogram, help: Prices.", &["buckets"]),
        ("buckets: [1, 2.5]", "buckets: [2.5, 1]", &["metrics.yml:7:", "ascending"]),
        ("help: Users., labels", "help: Users., buckets: [1], labels", &["users has buckets"]),
        ("name: deal_created", "name: Deal", &["metrics.yml:9:", "\"Deal\"", "a-z"]),
        ("table: public.deals", "table: deals", &["metrics.yml:10:", "schema.table"]),
        ("on: insert", "on: upsert", &["metrics.yml:11:", "upsert", "insert"]),
        ("when: n.price > 0", "when: n.price > 0) OR (true; DROP", &["metrics.yml:12:", "not opened"]),
        ("when: n.price > 0", "when: '$business_exporter$'", &["metrics.yml:12:", "dollar"]),
        ("when: n.price > 0", "whem: n.price > 0", &["metrics.yml:12:", "whem"]),
        ("{status: n.status}", "{state: n.status}", &["metrics.yml:14:", "created_total is declared with"]),
        ("price, value: n.price", "price", &["metrics.yml:15:", "needs a value"]),
        (
            "price, value: n.price",
            "deals, labels: {status: '1', kind: '2'}",
            &["metrics.yml:15:", "filled by a query"],
        ),
        ("{enum: public.dealstatus}", "{enum: dealstatus}", &["schema.type"]),
        ("{enum: public.dealstatus}", "{enum: public.dealstatus, max: 3}", &["exclude each other"]),
        (
            "{status: {enum: public.dealstatus}}",
            "{status: {max: 3}}, init: zero",
            &["init: zero", "\"status\""],
        ),
        ("created: created_total", "created: price", &["metrics.yml:17:", "\"price\"", "an event on insert"]),
        ("by: status, created", "by: status, deleted: created_total, created", &["event on delete"]),
        ("by: status, created", "by: '\"', created", &["one column"]),
        ("name: users, type", "name: created, type", &["metrics.yml:6:", "created_total without _total"]),
        ("name: deals\n", "name: events\n", &["counting of events"]),
    ] {
        assert!(GOOD.contains(old), "{old}");
        let error = read(&GOOD.replacen(old, new, 1)).unwrap_err().to_string();
        for word in expected {
            assert!(error.contains(word), "{new}: {error}");
        }
    }
}

#[test]
fn the_shipped_definition_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/autodealgenie.yml");
    assert!(load(&path).unwrap().queries.len() >= 5);
}
