# The first base of a config that names 'mmseg::…' in a later one: once kd_plugin is imported, such
# names are found under every distribution of mmseg. An import statement would make mmengine take this
# file for a config in its pure Python style.
__import__('kd_plugin')
custom_imports = dict(imports=['kd_plugin'], allow_failed_imports=False)
