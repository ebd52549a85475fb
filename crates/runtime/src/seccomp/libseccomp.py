"""The oracle of the filter tests: reads OCI profiles, one a line, and writes what libseccomp makes of
each, as runc would ask it: a little-endian u32 length and that many bytes of instructions."""
import ctypes, ctypes.util, json, os, struct, sys, tempfile

lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


void = ctypes.c_void_p
lib.seccomp_arch_add.argtypes = [void, ctypes.c_uint32]
lib.seccomp_attr_set.argtypes = [void, ctypes.c_int, ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [void, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)]
lib.seccomp_export_bpf.argtypes = [void, ctypes.c_int]
lib.seccomp_release.argtypes = [void]

OPERATORS = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
ARCHES = {"X86_64": 0xC000003E, "X86": 0x40000003, "X32": 0x4000003E, "AARCH64": 0xC00000B7, "ARM": 0x40000028}
ACTIONS = {"ALLOW": 0x7FFF0000, "LOG": 0x7FFC0000, "TRACE": 0x7FF00000, "ERRNO": 0x00050000, "TRAP": 0x00030000,
           "KILL_PROCESS": 0x80000000, "KILL_THREAD": 0, "KILL": 0}
BAD_ARCH = 2


def action(name, value):
    word = name.removeprefix("SCMP_ACT_")
    data = (1 if value is None else value) if word in ("ERRNO", "TRACE") else 0
    return ACTIONS[word] | data


def add(context, default, rule):
    answer = action(rule["action"], rule.get("errnoRet"))
    if answer == default:
        return
    compares = [
        Compare(a["index"], 1 + OPERATORS.index(a["op"].removeprefix("SCMP_CMP_")), a["value"], a.get("valueTwo", 0))
        for a in rule.get("args", [])
    ]
    # runc: several comparisons of one argument are rules of their own.
    repeated = len({c.arg for c in compares}) < len(compares)
    groups = [[c] for c in compares] if repeated else [compares]
    for name in rule["names"]:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            continue
        for group in groups:
            code = lib.seccomp_rule_add_array(context, answer, number, len(group), (Compare * len(group))(*group))
            # It says the same as another one.
            if code not in (0, -17):
                sys.exit(f"rule {rule} for {name}: {code}")


for line in sys.stdin:
    profile = json.loads(line)
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = lib.seccomp_init(default)
    lib.seccomp_attr_set(context, BAD_ARCH, ACTIONS["KILL_PROCESS"])
    for arch in profile.get("architectures", []):
        lib.seccomp_arch_add(context, ARCHES[arch.removeprefix("SCMP_ARCH_")])
    for rule in profile["syscalls"]:
        add(context, default, rule)
    with tempfile.TemporaryFile() as file:
        if lib.seccomp_export_bpf(context, file.fileno()) != 0:
            sys.exit("export")
        file.seek(0)
        program = file.read()
    lib.seccomp_release(context)
    sys.stdout.buffer.write(struct.pack("<I", len(program)) + program)
