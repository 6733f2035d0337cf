use super::*;

const GOOD: &str = "
version: 1
families:
  - {name: deals, type: gauge, help: Deals., labels: [status, kind]}
  - {name: users, type: gauge, help: Users., labels: [state]}
  - {name: created_total, type: counter, help: Created., labels: {status: {enum: public.dealstatus}}}
  - {name: gone_total, type: counter, help: Gone.}
  - {name: price, type: histogram, help: Prices., buckets: [1, 2.5]}
events:
  - name: deal_created
    table: public.deals
    on: insert
    when: n.price > 0
    emit:
      - {family: created_total, labels: {status: n.status}}
      - {family: price, value: n.price}
  - {name: gone, table: public.deals, on: delete, emit: [{family: gone_total}]}
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

fn read(text: &str) -> Result<Definitions, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users.sql"), "SELECT 1 AS active, 2 AS inactive -- users").unwrap();
    parse(text, &folder.path().join("metrics.yml"))
}

#[test]
fn a_good_definition() {
    let Definitions { databases, hash, .. } = read(GOOD).unwrap();
    let [definition] = &databases[..] else { panic!("{databases:?}") };
    assert_eq!(definition.database.name, "main");
    let [deals, users] = &definition.queries[..] else { panic!("{definition:?}") };
    assert_eq!(deals.sql, "SELECT status, count(*) AS deals FROM deals GROUP BY 1");
    assert_eq!((deals.timeout.as_secs(), deals.max_rows), (5, 500));
    assert_eq!(deals.emit[0].static_labels, [("kind".to_owned(), "car".to_owned())]);
    assert!(users.sql.ends_with("-- users"));
    let [created, _] = &definition.events[..] else { panic!("{definition:?}") };
    assert_eq!((created.table.1.as_str(), created.key.as_str()), ("deals", "id"));
    assert_eq!(created.emit[0].labels, ["n.status"]);
    assert_eq!((created.emit[0].value.as_ref(), created.emit[1].value.as_deref()), (None, Some("n.price")));
    assert_eq!(hash.len(), 16);
    assert_ne!(hash, read(&GOOD.replace("Users.", "Accounts.")).unwrap().hash);
}

#[test]
fn mistakes_are_shown_with_their_place() {
    for (old, new, expected) in [
        ("version: 1", "version: 2", &["metrics.yml:2:", "version 1"][..]),
        ("name: users, type", "name: deals, type", &["metrics.yml:5:", "family deals stands twice"]),
        ("- name: users\n", "- name: deals\n", &["metrics.yml:26:", "query \"deals\" stands twice"]),
        ("family: users", "family: uesrs", &["metrics.yml:29:", "\"uesrs\" is not declared"]),
        ("type: gauge, help: Users", "type: counter, help: Users", &["_total"]),
        ("name: users, type", "name: process_x, type", &["process_"]),
        ("name: users, type", "name: us-ers, type", &["us-ers"]),
        (", labels: [status]", "", &["deals is declared with labels", "status"]),
        ("GROUP BY 1;", "GROUP BY 1; DROP TABLE deals", &["more than one statement"]),
        ("timeout: 5s", "timeout: 5", &["duration"]),
        ("timeout: 5s", "refresh: 0s", &["metrics.yml:23:", "never rest"]),
        ("timeout: 5s", "timeuot: 5s", &["timeuot", "metrics.yml:23:"]),
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
        ("buckets: [1, 2.5]", "buckets: [2.5, 1]", &["metrics.yml:8:", "ascending"]),
        ("help: Users., labels", "help: Users., buckets: [1], labels", &["users has buckets"]),
        ("name: deal_created", "name: Deal", &["metrics.yml:10:", "\"Deal\"", "a-z"]),
        ("table: public.deals", "table: deals", &["metrics.yml:11:", "schema.table"]),
        ("on: insert", "on: upsert", &["metrics.yml:12:", "upsert", "insert"]),
        ("when: n.price > 0", "when: n.price > 0) OR (true; DROP", &["metrics.yml:13:", "not opened"]),
        ("when: n.price > 0", "when: '$business_exporter$'", &["metrics.yml:13:", "dollar"]),
        ("when: n.price > 0", "whem: n.price > 0", &["metrics.yml:13:", "whem"]),
        ("{status: n.status}", "{state: n.status}", &["metrics.yml:15:", "created_total is declared with"]),
        ("price, value: n.price", "price", &["metrics.yml:16:", "needs a value"]),
        (
            "price, value: n.price",
            "deals, labels: {status: '1', kind: '2'}",
            &["metrics.yml:16:", "filled by a query"],
        ),
        ("{enum: public.dealstatus}", "{enum: dealstatus}", &["schema.type"]),
        ("{enum: public.dealstatus}", "{enum: public.dealstatus, max: 3}", &["exclude each other"]),
        (
            "{status: {enum: public.dealstatus}}",
            "{status: {max: 3}}, init: zero",
            &["init: zero", "\"status\""],
        ),
        ("created: created_total", "created: price", &["metrics.yml:19:", "\"price\"", "an event on insert"]),
        ("by: status, created", "by: status, deleted: created_total, created", &["event on delete"]),
        ("by: status, created", "by: '\"', created", &["one column"]),
        ("name: users, type", "name: created, type", &["metrics.yml:6:", "created_total without _total"]),
        ("name: deals\n", "name: events\n", &["counting of events"]),
        (
            "created_total, type: counter",
            "created_total, append_only: true, type: counter",
            &["append_only", "\"gone\""],
        ),
        ("version: 1", "version: 1\ndatabases: []", &["databases is empty"]),
        (
            "version: 1",
            "version: 1\ndatabase: {name: a}\ndatabases: [{name: a}]",
            &["either database or databases"],
        ),
        ("version: 1", "version: 1\ndatabases: [{name: a}, {name: a}]", &["two databases have one name"]),
        (
            "version: 1",
            "version: 1\ndatabases: [{name: a}, {name: b}]",
            &["several databases", "under database"],
        ),
        ("timeout: 5s", "database: shop", &["metrics.yml:23:", "no database \"shop\""]),
        ("timeout: 5s", "requires: {min_version: 16, max_version: 15}", &["no version is 16"]),
        ("timeout: 5s", "requires: {min_version: 150000}", &["major releases"]),
        ("timeout: 5s", "requires: {extension: \"a'\"}", &["name of an extension"]),
        ("timeout: 5s", "requires: {relation: deals}", &["schema.name"]),
        ("timeout: 5s", "requires: {rule: primary}", &["metrics.yml:23:", "rule"]),
        ("type: gauge, help: Users.", "type: info, help: Users.", &["ends in _info"]),
        ("type: gauge, help: Users.", "type: stateset, help: Users.", &["needs states"]),
        (
            "type: gauge, help: Users.",
            "type: stateset, states: [a, a], help: Users.",
            &["a state of users stands twice"],
        ),
        (
            "type: gauge, help: Users.",
            "type: stateset, states: [a], help: Users.",
            &["users needs a state column"],
        ),
        (
            "type: gauge, help: Users.",
            "type: histogram, buckets: [1], help: Users.",
            &["the columns le and count"],
        ),
        ("value: deals, ", "value: deals, le: x, ", &["either a value column or a pivot"]),
        ("version: 1", "version: 1\ninclude: [conf.d/*.yml]", &["cannot list"]),
        ("version: 1", "version: 1\ninclude: [gone.yml]", &["gone.yml", "check the path"]),
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
    assert!(load(&path).unwrap().databases[0].queries.len() >= 5);
}
