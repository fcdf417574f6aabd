/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shunt/display.h"

#include <stdlib.h>
#include <string.h>

enum { CELL = 512, INDENT = 2 };

/* Append to a cell; what does not fit is cut. */
static void put(char *cell, const char *text)
{
	size_t len = strlen(cell);

	(void)snprintf(cell + len, CELL - len, "%s", text);
}

static void put_scalar(char *cell, const json_t *value)
{
	char number[32];

	if (json_is_string(value)) {
		put(cell, json_string_length(value) ? json_string_value(value) : "-");
	} else if (json_is_integer(value)) {
		(void)snprintf(
			number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		put(cell, number);
	} else if (json_is_boolean(value)) {
		put(cell, json_is_true(value) ? "yes" : "no");
	} else {
		put(cell, "-");
	}
}

/* Any value in one line. */
static void put_value(char *cell, const json_t *value)
{
	json_t *element;
	const char *key;
	size_t i;

	if (json_is_array(value)) {
		json_array_foreach (value, i, element) {
			put(cell, i ? " " : "");
			put_scalar(cell, element);
		}
	} else if (json_is_object(value)) {
		bool first = true;

		json_object_foreach ((json_t *)value, key, element) {
			put(cell, first ? "" : " ");
			put(cell, key);
			put(cell, "=");
			put_scalar(cell, element);
			first = false;
		}
	} else {
		put_scalar(cell, value);
	}
	if (!cell[0])
		put(cell, "-");
}

static bool is_table(const json_t *value)
{
	return json_is_array(value) && json_is_object(json_array_get(value, 0));
}

/* Numbers stand to the right. The last column is not padded. */
static void write_cell(FILE *out, const char *text, int width, bool number, bool last)
{
	if (number)
		(void)fprintf(out, "%*s", width, text);
	else if (last)
		(void)fputs(text, out);
	else
		(void)fprintf(out, "%-*s", width, text);
	(void)fputs(last ? "\n" : "  ", out);
}

static int column_width(const json_t *rows, const char *key)
{
	size_t width = strlen(key);
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row) {
		char cell[CELL] = "";

		put_value(cell, json_object_get(row, key));
		if (strlen(cell) > width)
			width = strlen(cell);
	}
	return (int)width;
}

static bool write_table(FILE *out, const json_t *rows, int indent)
{
	json_t *first = json_array_get(rows, 0);
	size_t columns = json_object_size(first);
	int *widths = calloc(columns + 1, sizeof(*widths));
	const char *key;
	json_t *value;
	json_t *row;
	size_t i;
	size_t c = 0;

	if (!widths)
		return false;
	json_object_foreach (first, key, value)
		widths[c++] = column_width(rows, key);
	(void)fprintf(out, "%*s", indent, "");
	c = 0;
	json_object_foreach (first, key, value) {
		write_cell(out, key, widths[c], json_is_integer(value), c + 1 == columns);
		c++;
	}
	json_array_foreach (rows, i, row) {
		(void)fprintf(out, "%*s", indent, "");
		c = 0;
		json_object_foreach (first, key, value) {
			const json_t *field = json_object_get(row, key);
			char cell[CELL] = "";

			put_value(cell, field);
			write_cell(out, cell, widths[c], json_is_integer(value), c + 1 == columns);
			c++;
		}
	}
	free(widths);
	return true;
}

static bool write_object(FILE *out, json_t *object, int indent)
{
	size_t width = 0;
	const char *key;
	json_t *value;

	json_object_foreach (object, key, value) {
		if (strlen(key) > width)
			width = strlen(key);
	}
	json_object_foreach (object, key, value) {
		bool nested = json_is_object(value) && json_object_size(value);
		char cell[CELL] = "";

		if (nested || is_table(value)) {
			(void)fprintf(out, "%*s%s\n", indent, "", key);
			if (!(nested ? write_object(out, value, indent + INDENT)
				     : write_table(out, value, indent + INDENT)))
				return false;
			continue;
		}
		put_value(cell, value);
		(void)fprintf(out, "%*s%-*s  %s\n", indent, "", (int)width, key, cell);
	}
	return true;
}

bool display(FILE *out, const json_t *value, bool json)
{
	char cell[CELL] = "";

	if (json)
		return !json_dumpf(value, out, JSON_INDENT(2) | JSON_ENCODE_ANY) &&
		       fputc('\n', out) != EOF;
	if (is_table(value))
		return write_table(out, value, 0);
	if (json_is_object(value))
		return write_object(out, (json_t *)value, 0);
	if (json_is_array(value)) /* an empty one */
		return true;
	put_value(cell, value);
	return fprintf(out, "%s\n", cell) > 0;
}

bool display_checks(FILE *out, const json_t *checks)
{
	static const char *const more[] = {"cause", "cure"};
	json_t *check;
	size_t i;

	json_array_foreach (checks, i, check) {
		const char *status = json_string_value(json_object_get(check, "status"));
		char what[CELL] = "";
		char value[CELL] = "";

		put_value(what, json_object_get(check, "what"));
		put_value(value, json_object_get(check, "value"));
		(void)fprintf(out, "%-4s  %s: %s\n",
			status && !strcmp(status, "fail") ? "FAIL"
			: status                          ? status
							  : "?",
			what, value);
		for (unsigned m = 0; m < sizeof(more) / sizeof(more[0]); m++) {
			const char *text = json_string_value(json_object_get(check, more[m]));

			if (text && *text)
				(void)fprintf(out, "      %s: %s\n", more[m], text);
		}
	}
	return !ferror(out);
}
