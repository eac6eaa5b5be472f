/* SPDX-License-Identifier: Apache-2.0 */
/* main(): options, the list of commands, help. */
#include "sluicectl.h"

#include <stdio.h>
#include <string.h>

#define RUNTIME_DIR_DEFAULT "/run/sluice"

/* Options that a command takes beside the general ones. */
enum {
	OPTION_TIMEOUT = 1,
	OPTION_WAIT = 2,
	OPTION_FLAGS = 4,
	OPTION_BATCH = 8,
	OPTION_BYTES = 16,
	OPTION_INTERVAL = 32,
	OPTION_COUNT = 64,
	OPTION_PATH = 128,
	OPTION_CAPTURE = 256,
};

struct command {
	const char *name;
	enum ctl_exit (*run)(const struct ctl *ctl);
	int least, most; /* arguments */
	unsigned options;
	const char *usage;
	const char *summary;
	const char *help; /* what more there is to say; NULL: nothing */
};

static const struct command commands[] = {
    {"status", command_status, 0, 0, 0, "", "what runs, in short", NULL},
    {"services", command_services, 0, 0, 0, "", "services with their state and traffic", NULL},
    {"backends", command_backends, 0, 1, 0, "[SERVICE]", "backends with state, reason and share", NULL},
    {"vips", command_vips, 0, 0, 0, "", "virtual addresses and where they are", NULL},
    {"paths", command_paths, 0, 0, 0, "", "what forwards: dataplanes and interfaces", NULL},
    {"counters", command_counters, 0, 0, 0, "", "packets by verdict, worker and port", NULL},
    {"drops", command_drops, 0, 0, 0, "", "dropped packets by reason and service", NULL},
    {"top", command_top, 0, 0, OPTION_INTERVAL | OPTION_COUNT, "[--interval T] [--count N]", "rates, refreshed",
     "  --interval T  time between two looks (default 1s)\n"
     "  --count N     end after N views (default: never; with --json 1)\n"},
    {"capture", command_capture, 0, 0, OPTION_CAPTURE | OPTION_COUNT | OPTION_PATH,
     "[-w FILE] [--service S] [--client ADDR[/LEN]] [--verdict V] [--path P] [--count N] [--duration T] [--snaplen N] "
     "[--sample 1/N]",
     "packets with their verdicts, as they come",
     "  -w FILE       write a pcapng file (- is standard output) instead of one line a packet\n"
     "  --service S   of that service\n"
     "  --client A    from that address or prefix\n"
     "  --verdict V   forward, pass, drop, answer, or a label such as no_backend; several with commas\n"
     "  --path P      dpdk or xdp (default: both)\n"
     "  --count N     end after N packets (default 10000)\n"
     "  --duration T  end after T (default 60s)\n"
     "  --snaplen N   bytes of each frame, 14 to 1984 (default 256)\n"
     "  --sample 1/N  one packet in N\n"},
    {"explain", command_explain, 0, 3, OPTION_FLAGS | OPTION_BATCH | OPTION_BYTES | OPTION_PATH,
     "PROTO SRC:PORT DST:PORT [--flags S|SA|F|R] [--bytes N] [--path P] | --batch FILE [--path P]",
     "what becomes of a packet, by the code that forwards",
     "  PROTO         tcp, udp or icmp (icmp: addresses without ports)\n"
     "  SRC, DST      192.0.2.1:1234 or [2001:db8::1]:1234\n"
     "  --flags F     TCP flags, letters of FSRPA (default S)\n"
     "  --bytes N     length of the IP packet (default: its headers only)\n"
     "  --path P      dpdk or xdp (default: the one that forwards now)\n"
     "  --batch FILE  one \"PROTO SRC DST\" a line; - is standard input. With --json an array, one\n"
     "                element a line, in the order of the questions\n"},
    {"check", command_check, 1, 1, 0, "FILE", "check a configuration without a control plane",
     "Silent, exit code 0, when it is good; else each error with FILE:LINE:, exit code 1.\n"},
    {"plan", command_plan, 1, 1, 0, "FILE", "what applying a configuration would change", NULL},
    {"apply", command_apply, 1, 1, 0, "FILE", "make FILE the configuration", NULL},
    {"reload", command_reload, 0, 0, 0, "", "read the configuration again", NULL},
    {"rollback", command_rollback, 0, 0, 0, "", "back to the configuration before", NULL},
    {"drain", command_drain, 1, 1, OPTION_TIMEOUT | OPTION_WAIT, "SERVICE/BACKEND [--timeout T] [--wait]",
     "send new flows elsewhere",
     "  --timeout T   a deadline for the drain, such as 90s or 10min\n"
     "  --wait        return when the backend gets no packets any more, or at the deadline\n"},
    {"enable", command_enable, 1, 1, 0, "SERVICE/BACKEND", "end a drain or a disable", NULL},
    {"disable", command_disable, 1, 1, 0, "SERVICE/BACKEND", "take out at once; its connections are cut", NULL},
    {"weight", command_weight, 2, 2, 0, "SERVICE/BACKEND N|configured", "set the weight, 0 to 65535",
     "It stands over the configuration's until it is taken back: with \"configured\".\n"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* ------------------------------------------------------------------------ help ---- */

static void help_general(FILE *out)
{
	fprintf(out, "usage: sluicectl [--runtime-dir DIR] [--json] COMMAND ...\n\ncommands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
	fprintf(out, "\n  --runtime-dir DIR  of the control plane (default " RUNTIME_DIR_DEFAULT ")\n"
		     "  --json             one JSON document instead of a table\n"
		     "  --help             after a command: about that command\n"
		     "  --version\n"
		     "\nexit codes: 0 done, 1 refused or failed, 2 bad usage, 3 no control plane answers\n");
}

static void help_command(FILE *out, const struct command *command)
{
	fprintf(out, "usage: sluicectl %s%s%s\n%s.\n%s", command->name, command->usage[0] ? " " : "", command->usage,
		command->summary, command->help ? command->help : "");
}

/* Letters that differ from one name to the other, roughly: enough for a typing error. */
static unsigned difference(const char *a, const char *b)
{
	unsigned d = 0;
	for (; *a && *b; a++, b++) {
		if (*a == *b)
			continue;
		d++;
		if (a[1] == *b && a[1])
			a++;
		else if (b[1] == *a && b[1])
			b++;
	}
	return d + (unsigned)(strlen(a) + strlen(b));
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static enum ctl_exit command_unknown(const char *name)
{
	const struct command *best = &commands[0];
	for (size_t i = 1; i < COMMANDS; i++)
		if (difference(name, commands[i].name) < difference(name, best->name))
			best = &commands[i];
	for (size_t i = 0; i < COMMANDS && name[0]; i++)
		if (!strncmp(name, commands[i].name, strlen(name))) {
			best = &commands[i];
			break;
		}
	fprintf(stderr, "sluicectl: there is no command \"%s\"; did you mean \"%s\"? (sluicectl --help lists them)\n",
		name, best->name);
	return CTL_USAGE;
}

/* --------------------------------------------------------------------- options ---- */

struct option {
	const char *name;
	unsigned bit; /* 0: general */
	const char **value;
	bool *flag; /* instead of a value */
};

/* The option's index, or -1; *ret_value points behind "--name=" when it was so written. */
static int option_match(const struct option *options, const char *argument, const char **ret_value)
{
	*ret_value = NULL;
	for (int i = 0; options[i].name; i++) {
		size_t length = strlen(options[i].name);
		if (strncmp(argument, options[i].name, length))
			continue;
		if (argument[length] == '\0')
			return i;
		if (argument[length] == '=' && options[i].value) {
			*ret_value = argument + length + 1;
			return i;
		}
	}
	return -1;
}

static enum ctl_exit usage_error(const struct command *command, const char *what, const char *which)
{
	fprintf(stderr, "sluicectl: %s%s%s\n", what, which ? " " : "", which ? which : "");
	if (command)
		help_command(stderr, command);
	else
		fprintf(stderr, "sluicectl --help says what there is\n");
	return CTL_USAGE;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.runtime_dir = RUNTIME_DIR_DEFAULT};
	bool help = false, version = false, plain = false;
	const struct option options[] = {
	    {"--runtime-dir", 0, &ctl.runtime_dir, NULL},
	    {"--json", 0, NULL, &ctl.json},
	    {"--help", 0, NULL, &help},
	    {"-h", 0, NULL, &help},
	    {"--version", 0, NULL, &version},
	    {"--timeout", OPTION_TIMEOUT, &ctl.timeout, NULL},
	    {"--wait", OPTION_WAIT, NULL, &ctl.wait},
	    {"--flags", OPTION_FLAGS, &ctl.flags, NULL},
	    {"--batch", OPTION_BATCH, &ctl.batch, NULL},
	    {"--bytes", OPTION_BYTES, &ctl.bytes, NULL},
	    {"--path", OPTION_PATH, &ctl.path, NULL},
	    {"--interval", OPTION_INTERVAL, &ctl.interval, NULL},
	    {"--count", OPTION_COUNT, &ctl.count, NULL},
	    {"-w", OPTION_CAPTURE, &ctl.write, NULL},
	    {"--write", OPTION_CAPTURE, &ctl.write, NULL},
	    {"--service", OPTION_CAPTURE, &ctl.service, NULL},
	    {"--client", OPTION_CAPTURE, &ctl.client, NULL},
	    {"--verdict", OPTION_CAPTURE, &ctl.verdict, NULL},
	    {"--duration", OPTION_CAPTURE, &ctl.duration, NULL},
	    {"--snaplen", OPTION_CAPTURE, &ctl.snaplen, NULL},
	    {"--sample", OPTION_CAPTURE, &ctl.sample, NULL},
	    {NULL, 0, NULL, NULL},
	};
	const struct command *command = NULL;
	int kept = 0;

	for (int i = 1; i < argc; i++) {
		const char *value;
		if (!plain && !strcmp(argv[i], "--")) {
			plain = true;
			continue;
		}
		if (plain || argv[i][0] != '-' || argv[i][1] == '\0') {
			if (command)
				argv[kept++] = argv[i];
			else if (!(command = command_find(argv[i])))
				return command_unknown(argv[i]);
			continue;
		}
		int which = option_match(options, argv[i], &value);
		if (which < 0 || (options[which].bit && !(command && (command->options & options[which].bit))))
			return usage_error(command, "unknown option", argv[i]);
		if (options[which].flag) {
			*options[which].flag = true;
			continue;
		}
		if (!value && i + 1 == argc)
			return usage_error(command, "a value is missing after", argv[i]);
		*options[which].value = value ? value : argv[++i];
	}
	if (help) {
		if (command)
			help_command(stdout, command);
		else
			help_general(stdout);
		return CTL_OK;
	}
	if (version) {
		printf("sluicectl %s\n", SLUICE_VERSION);
		return CTL_OK;
	}
	if (!command) {
		help_general(stderr);
		return CTL_USAGE;
	}
	if (kept < command->least || kept > command->most)
		return usage_error(command, kept < command->least ? "an argument is missing" : "too many arguments",
				   NULL);
	ctl.arguments = (const char *const *)argv;
	ctl.argument_count = kept;
	enum ctl_exit result = command->run(&ctl);
	ctl_http_close();
	if (fflush(stdout) || ferror(stdout)) {
		perror("sluicectl: standard output");
		return CTL_FAILED;
	}
	return result;
}
