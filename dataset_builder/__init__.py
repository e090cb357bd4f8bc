"""posts → shards. `build` is the flow; what it calls, in its order:

posts → matches     seeds, hashtags, inflect: seed labels and the hashtags they own (label_sets/: the lists shipped)
                    posts, read_posts, post_rows, normal_form: tables of any format, in parts, in one form
                    match: the two rounds; tag_table, tag_index: tags → labels; spill, unite: posts → videos
matches → manifest  candidates, eligible, choose: which videos; sampling, duration: pure functions that say so
                    label_space, manifest: what was chosen; subset: the same from a finished dataset
                    label_noise: wrong labels on purpose
manifest → shards   shard, tar: one shard; uploads, web: a URI's bytes; decoder, transcode: bytes → the stored form
                    recorder: its frames as they come; packing: how it leaves the process that decodes
                    checks: settings refused before any work; dataset: dataset.json
                    croissant, provenance: the same for the tools of others and for people
targets             annotations: tables of every format; → the same artefacts; compact: a dataset without what a dedup excluded
to look at          label_report (dataset_labels, label_statistics, label_overlap, label_page): `tagreel labels`
                    inspect_shard (shard_contents): `tagreel inspect`
"""
