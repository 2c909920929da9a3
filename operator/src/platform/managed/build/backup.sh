set -eu
umask 077
stamp="$(date -u +%Y-%m-%dT%H-%M-%SZ)"
part="$BACKUP_DIR/.$stamp.part"
rm -rf "$BACKUP_DIR"/.*.part
mkdir "$part"
pg_dumpall --roles-only --no-role-passwords --file="$part/roles.sql"
psql --no-psqlrc --tuples-only --no-align \
  --command="select datname from pg_database where datallowconn and datname not in ('template0', 'template1', 'postgres')" >"$part/databases"
while read -r database; do
  pg_dump --format=custom --file="$part/$database.dump" --dbname="$database"
done <"$part/databases"
sync
mv "$part" "$BACKUP_DIR/$stamp"
find "$BACKUP_DIR" -mindepth 1 -maxdepth 1 -name '????-??-??T*Z' -mtime "+$RETENTION_DAYS" -exec rm -rf {} +
echo "backed up into $stamp: $(tr '\n' ' ' <"$BACKUP_DIR/$stamp/databases")"
