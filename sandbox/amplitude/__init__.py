"""Two Amplitude projects, one of each region: what they export, chart and plan, and what they write into Blob Storage.

Map, from the data outwards
    plan           the tracking plan, in two versions, as Python values
    envelope       one event as SQL: facts for counts, text for files
    generate       the lines of any hour, byte for byte the same for the same shape
    bad, files     lines, gzip files and archives as no writer should make them; gzip and zip as streams
    faults         how it fails on request, and the settings
    project        keys, limits, what was written again; the cache of files
    export, charts, taxonomy, control, app    the HTTP surface
    blobs, native, __main__    the native destination: hour by hour into a folder or a container
"""
