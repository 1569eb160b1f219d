# Completion for bash:  eval "$(_ARCSM_COMPLETE=source_bash arcsm)"
_arcsm() {
    local kind value help
    COMPREPLY=()
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            f|d) # as it has to be typed; ~ stays what it is
                if [[ $value == "~/"* ]]; then
                    printf -v value '~/%q' "${value:2}"
                else
                    printf -v value '%q' "$value"
                fi ;;
        esac
        case $kind in p|d) compopt -o nospace ;; esac
        COMPREPLY+=("$value")
    done < <(_ARCSM_COMPLETE=bash COMP_LINE="${COMP_LINE:0:COMP_POINT}" \
             COMP_WORDBREAKS="$COMP_WORDBREAKS" "$1" 2>/dev/null)
}
complete -F _arcsm arcsm
