"""A Ray cluster on this host: reads ``add {options}`` and ``kill <node>``, a line each.

It answers with a line of JSON; when its input ends, it stops all nodes.
"""

import json
import sys

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80_000_000}

cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL}
)
print(json.dumps(cluster.address), flush=True)
nodes = {}
for line in sys.stdin:
    verb, _, rest = line.partition(" ")
    if verb == "add":
        node = cluster.add_node(**SMALL, **json.loads(rest))
        nodes[node.node_id] = node
        (raylet,) = node.all_processes["raylet"]
        print(json.dumps([node.node_id, raylet.process.pid]), flush=True)
    else:
        # SIGKILL to all that Ray started there; workers then see that they have lost it.
        cluster.remove_node(nodes.pop(rest.strip()), allow_graceful=False)
        print("null", flush=True)
cluster.shutdown()
