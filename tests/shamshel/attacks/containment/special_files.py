# Tries: leave pipes, links and unreadable folders to be collected
# Status: ok
import os

os.mkfifo("pipe")
os.symlink("/etc/passwd", "link")
os.symlink("link2", "link2")
os.mkdir("closed")
open("closed/file", "w").close()
os.chmod("closed", 0)
open("locked", "w").close()
os.chmod("locked", 0)
