#!/usr/bin/env bash
# A tracking server: MLflow over PostgreSQL, with accounts, for this machine alone.
#
#   make server            # or: deploy/server.sh
#
# Needs Debian's package "postgresql". Everything lies in the folder SERVER_FOLDER (server/): the
# database, artifacts, and passwords, which are made at the first start and only the owner can read.
# PORT (5000) is the server's, POSTGRES_PORT (5433) the database's; both listen on 127.0.0.1. Others
# reach it through a tunnel (ssh -L 5000:127.0.0.1:5000) or a proxy with TLS.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."
folder=${SERVER_FOLDER:-server}
port=${PORT:-5000}
database_port=${POSTGRES_PORT:-5433}
workers=${WORKERS:-4}
mkdir -p "$folder/artifacts"
folder=$(realpath "$folder")
exec 9> "$folder/lock"
if ! flock --nonblock 9; then
  echo "error: a server runs in $folder already" >&2
  exit 2
fi
data=$folder/postgres

programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1 || true)
if [ -z "$programs" ]; then
  echo "error: there is no PostgreSQL: apt-get install postgresql" >&2
  exit 2
fi

# PostgreSQL does not run as root.
as_owner=()
if [ "$(id -u)" = 0 ]; then
  as_owner=(runuser -u postgres --)
  chmod 711 "$folder"
  if ! "${as_owner[@]}" test -x "$folder"; then
    echo "error: the user postgres cannot enter $folder: set SERVER_FOLDER to another" >&2
    exit 2
  fi
fi

if [ ! -f "$folder/secrets" ]; then
  .venv/bin/python - > "$folder/secrets.part" <<'PYTHON'
import secrets

for name in ("ADMIN_PASSWORD", "DATABASE_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
    print(f"{name}={secrets.token_urlsafe(24)}")
PYTHON
  mv "$folder/secrets.part" "$folder/secrets"
fi
# shellcheck disable=SC1091
. "$folder/secrets"

if [ ! -f "$data/PG_VERSION" ]; then
  rm -rf "$data"
  mkdir "$data"
  printf '%s\n' "$DATABASE_PASSWORD" > "$folder/password"
  [ ${#as_owner[@]} = 0 ] || chown postgres "$data" "$folder/password"
  "${as_owner[@]}" "$programs/initdb" --pgdata="$data" --username=unroll \
    --pwfile="$folder/password" --auth=scram-sha-256 --encoding=UTF8 --no-instructions >/dev/null
  rm "$folder/password"
fi
# One that was left running, which is this server's alone, may have been started with other options.
if "${as_owner[@]}" "$programs/pg_ctl" status --pgdata="$data" >/dev/null; then
  "${as_owner[@]}" "$programs/pg_ctl" stop --pgdata="$data" --mode=fast --silent
fi
options="-c listen_addresses=127.0.0.1 -c port=$database_port -c unix_socket_directories=''"
"${as_owner[@]}" "$programs/pg_ctl" start --pgdata="$data" --wait --silent --log="$data/log" \
  -o "$options -c max_connections=$((130 * workers))" 9>&-
trap '"${as_owner[@]}" "$programs/pg_ctl" stop --pgdata="$data" --mode=fast --silent' EXIT
trap 'exit 143' TERM
export PGPASSWORD=$DATABASE_PASSWORD PGHOST=127.0.0.1 PGPORT=$database_port PGUSER=unroll
there=$("$programs/psql" --dbname=postgres --tuples-only --command="select datname from pg_database")
for name in mlflow accounts; do
  grep --quiet --word-regexp "$name" <<< "$there" || "$programs/createdb" "$name"
done
unset PGPASSWORD

database=postgresql+psycopg2://unroll:$DATABASE_PASSWORD@127.0.0.1:$database_port
cat > "$folder/basic_auth.ini" <<INI
[mlflow]
default_permission = READ
database_uri = $database/accounts
admin_username = admin
admin_password = $ADMIN_PASSWORD
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# A password takes a tenth of a second to check, and comes with every request.
auth_cache_ttl_seconds = 60
INI

echo "http://127.0.0.1:$port, for you as admin; in a shell that shall speak to it:"
echo "  export MLFLOW_TRACKING_URI=http://127.0.0.1:$port MLFLOW_TRACKING_USERNAME=admin"
echo "  export MLFLOW_TRACKING_PASSWORD=\$(sed -n s/^ADMIN_PASSWORD=//p $folder/secrets)"
echo "Accounts for others: http://127.0.0.1:$port/signup"
# By the environment: a command line can be read by every user of the machine.
export MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_BACKEND_STORE_URI=$database/mlflow MLFLOW_AUTH_CONFIG_PATH=$folder/basic_auth.ini
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_DISABLE_TELEMETRY=true
# A worker answers 40 requests at once, each with a connection to the database; with 15, MLflow's
# default, it refuses some when many runs log. Runs, models and accounts have 40 each.
export MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=10 MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW=30
.venv/bin/mlflow server --app-name basic-auth --artifacts-destination "$folder/artifacts" \
  --host 127.0.0.1 --port "$port" --workers "$workers" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; exit 143' TERM INT
wait $server
