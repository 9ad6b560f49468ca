# Tries: make some forty system calls that a program has no need of
# Status: ok
import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
calls = """
bpf=321 perf_event_open=298 userfaultfd=323 keyctl=250 add_key=248 request_key=249
kexec_load=246 init_module=175 finit_module=313 fanotify_init=300 inotify_init=253
name_to_handle_at=303 open_by_handle_at=304 acct=163 swapon=167 reboot=169 sethostname=170
settimeofday=164 clock_settime=227 personality=135 memfd_create=319 memfd_secret=447 shmget=29
msgget=68 semget=64 mq_open=240 mlockall=151 kcmp=312 process_madvise=440 pkey_alloc=330
landlock_create_ruleset=444 seccomp=317 splice=275 vmsplice=278 tee=276 iopl=172 ioperm=173
modify_ldt=154 quotactl=179 lookup_dcookie=212 syslog=103 vhangup=153
"""
for item in calls.split():
    name, number = item.split("=")
    result = libc.syscall(int(number), 0, 0, 0, 0, 0, 0)
    if result >= 0 or ctypes.get_errno() != errno.EPERM:
        print("ESCAPED", name, result, ctypes.get_errno())
